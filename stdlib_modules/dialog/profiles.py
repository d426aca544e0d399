"""Profiles: named sets of dialogs, with or without a value, counted for limits of concurrent calls."""

from __future__ import annotations

from kamc.declare import ANY, Routes, function
from kamc.declare.argtypes import Lit, PvArg
from kamc.declare.values import to_int
from kamc.errors import ConfigError
from kamc.runtime.context import Ctx
from stdlib_modules.dialog.life import Life
from stdlib_modules.dialog.model import DELETED, Dialog

_RFOB = Routes.REQUEST | Routes.FAILURE | Routes.ONREPLY | Routes.BRANCH


def profile_names(text: str) -> list[str]:
    """``name ; name/s`` → names; what stands behind a slash chooses a storage in Kamailio."""
    return [part.partition("/")[0].strip() for part in text.split(";") if part.strip()]


class ProfileFunctions(Life):

    def start_profiles(self) -> None:
        """Raises ConfigError."""
        valued, plain = profile_names(self.p.profiles_with_value), profile_names(self.p.profiles_no_value)
        #: name → whether it has values
        self.profiles: dict[str, bool] = {**dict.fromkeys(valued, True), **dict.fromkeys(plain, False)}
        if len(self.profiles) != len(valued) + len(plain):
            raise ConfigError("dialog: a profile is named twice in profiles_with_value and profiles_no_value")
        #: other worker (a number), or worker of another server (its name) → (profile, value) → how many dialogs it has in it
        self.sizes_of_peers: dict[int | str, dict[tuple[str, str], int]] = {}
        #: (profile, value) → uid → wall-clock second until which a dialog of another server counts
        self.remote: dict[tuple[str, str], dict[str, float]] = {}

    def _known(self, profile: str, value: str | None) -> bool:
        """Whether the profile exists, and whether a value was given just where it has them."""
        if profile not in self.profiles:
            self.rt.log.error("dialog: there is no profile %s", profile)
            return False
        if self.profiles[profile] != (value is not None):
            self.rt.log.error("dialog: profile %s has %s", profile, "values: one is needed" if self.profiles[profile] else "no values")
            return False
        return True

    def join(self, dialog: Dialog, profile: str, value: str) -> None:
        if (profile, value) not in dialog.profiles:
            dialog.profiles.append((profile, value))
            dialog.dflags |= 2
            if self.is_copy(dialog):
                self.share(dialog)
            else:
                self.count_member(profile, value, 1)

    def members(self, profile: str, value: str | None) -> list[Dialog]:
        return [d for d in self.table if d.state != DELETED and any(name == profile and (value is None or v == value) for name, v in d.profiles)]

    def profile_size(self, profile: str, value: str | None) -> int:
        now = self.rt.wall_time()
        remote: int = sum(until > now for (name, v), uids in self.remote.items() if name == profile and (value is None or v == value) for until in uids.values())
        elsewhere = sum(n for sizes in self.sizes_of_peers.values() for (name, v), n in sizes.items() if name == profile and (value is None or v == value))
        return len(self.members(profile, value)) + elsewhere + remote

    # -- other workers ---------------------------------------------------------------------------------------------------

    def count_member(self, profile: str, value: str, by: int) -> None:
        self.rt.tell_peers("dialog", "follow_member", self.rt.worker.index, profile, value, by)
        self.rt.tell_servers("dialog", "follow_member", profile, value, by)

    def follow_member(self, worker: int | str, profile: str, value: str, by: int) -> None:
        sizes = self.sizes_of_peers.setdefault(worker, {})
        sizes[profile, value] = sizes.get((profile, value), 0) + by

    def show_members(self) -> None:
        """Tell the other workers how many members each profile has here."""
        sizes: dict[tuple[str, str], int] = {}
        for dialog in self.table:
            for key in dialog.profiles:
                sizes[key] = sizes.get(key, 0) + 1
        rows = [[*key, n] for key, n in sizes.items()]
        self.rt.tell_peers("dialog", "follow_members", self.rt.worker.index, rows)
        self.rt.tell_servers("dialog", "follow_members", rows)

    def server_joined(self, sender: str) -> None:
        self.show_members()

    def server_lost(self, sender: str) -> None:
        self.sizes_of_peers.pop(sender, None)

    def follow_members(self, worker: int | str, rows: list[tuple[str, str, int]]) -> None:
        self.sizes_of_peers[worker] = {(profile, value): n for profile, value, n in rows}

    # -- functions -------------------------------------------------------------------------------------------------------

    @function(ANY)
    def set_dlg_profile(self, ctx: Ctx, profile: Lit, value: str | None = None) -> int:
        """Count the dialog in a profile. Before the dialog exists it is noted for when it does."""
        if not self._known(profile, value):
            return -1
        dialog = self.current(ctx)
        if dialog is not None:
            self.join(dialog, profile, value or "")
        else:
            ctx.remember("dialog_profiles", [*ctx.recall("dialog_profiles", []), (profile, value or "")])
        return 1

    @function(_RFOB)
    def unset_dlg_profile(self, ctx: Ctx, profile: Lit, value: str | None = None) -> int:
        """Not in the request route of the first request."""
        if not self._known(profile, value):
            return -1
        dialog = self.current(ctx)
        if dialog is None or (ctx.kind is Routes.REQUEST and not ctx.msg.to_tag) or (profile, value or "") not in dialog.profiles:
            return -1
        dialog.profiles.remove((profile, value or ""))
        if self.is_copy(dialog):
            self.share(dialog)
        else:
            self.count_member(profile, value or "", -1)
        return 1

    @function(ANY)
    def is_in_profile(self, ctx: Ctx, profile: Lit, value: str | None = None) -> int:
        dialog = self.current(ctx)
        if not self._known(profile, value) or dialog is None:
            return -1
        return 1 if (profile, value or "") in dialog.profiles else -1

    def _put_size(self, ctx: Ctx, profile: str, value: str | None, size: PvArg) -> int:
        if not self._known(profile, value) or size.set is None:
            return -1
        size.set(ctx, self.profile_size(profile, value))
        return 1

    @function(ANY, "get_profile_size")
    def get_profile_size_all(self, ctx: Ctx, profile: Lit, size: PvArg) -> int:
        return self._put_size(ctx, profile, None, size)

    @function(ANY, "get_profile_size")
    def get_profile_size(self, ctx: Ctx, profile: Lit, value: str, size: PvArg) -> int:
        return self._put_size(ctx, profile, value, size)

    def _all_timeouts(self, profile: str, value: str | None, timeout: str) -> int:
        if not self._known(profile, value):
            return -1
        seconds = to_int(timeout)
        for dialog in self.members(profile, value):
            self.set_lifetime(dialog, seconds)
        return 1

    @function(ANY, "dlg_set_timeout_by_profile")
    def dlg_set_timeout_by_profile_all(self, ctx: Ctx, profile: Lit, timeout: Lit) -> int:
        return self._all_timeouts(profile, None, timeout)

    @function(ANY, "dlg_set_timeout_by_profile")
    def dlg_set_timeout_by_profile(self, ctx: Ctx, profile: Lit, value: str, timeout: Lit) -> int:
        return self._all_timeouts(profile, value, timeout)

    @function(ANY)
    def dlg_remote_profile(self, ctx: Ctx, cmd: str, profile: str, value: str, uid: str, expires: int) -> int:
        """Count a dialog of another server: ``add`` until the Unix time ``expires``, or ``rm`` it."""
        if profile not in self.profiles or cmd not in ("add", "rm"):
            self.rt.log.error("dlg_remote_profile: no profile %s, or the command is not add or rm", profile)
            return -1
        uids = self.remote.setdefault((profile, value), {})
        if cmd == "rm":
            return 1 if uids.pop(uid, None) is not None else -1
        uids[uid] = float(expires)
        return 1

    def forget_remote(self, now: float) -> None:
        for key, uids in list(self.remote.items()):
            kept = {uid: until for uid, until in uids.items() if until > now}
            if kept:
                self.remote[key] = kept
            else:
                del self.remote[key]
