"""Runtime variables: what a configuration declares as ``group.name = value``, and what the core and modules let be changed while they serve.

Kamailio's cfg framework (https://www.kamailio.org/wikidocs/cookbooks/6.0.x/core/#custom-global-parameters). A group may have instances with values of their own;
``cfg_select`` puts one in the place of the group for the run that calls it. While that run is at work the instance's values stand where everybody reads, and what
stood there is kept; when it waits or ends they are exchanged again. So nobody who reads a variable has to know of instances.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from kamc import catalogue

if TYPE_CHECKING:
    from kamc.runtime.api import Runtime

Value = int | str

#: groups of the core, and what the names of their variables begin with as core parameters
_CORE_PREFIXES: Final = {"core": "", "tcp": "tcp_"}
#: groups that are not called as their module
_MODULES: Final = {"dbg": "debugger"}


class Settings:
    """Those of a generation."""

    def __init__(self, rt: Runtime) -> None:
        self.rt = rt
        #: what the configuration declares: group and name → value
        self.custom: dict[tuple[str, str], Value] = {}
        self.descriptions: dict[tuple[str, str], str] = {}
        #: group and number → the values that differ from the group's
        self.instances: dict[tuple[str, int], dict[str, Value]] = {}
        #: of the run that is at work: group → number
        self.selected: dict[str, int] = {}
        #: what selected instances stand in front of
        self._behind: dict[tuple[str, str], Value] = {}

    def declare(self, group: str, name: str, instance: int | None, value: Value, description: str | None) -> None:
        """A line of the configuration."""
        if instance is not None:
            self.instances.setdefault((group, instance), {})[name] = value
            return
        self.custom[group, name] = value
        if description is not None:
            self.descriptions[group, name] = description

    # -- what there is ---------------------------------------------------------------------------------------------------

    def groups(self) -> Iterator[str]:
        yield from dict.fromkeys(group for group, _ in self.custom)
        yield from (group for group in catalogue.core()["cfg_groups"] if self._rows(group))

    def names(self, group: str) -> list[str]:
        """Empty for a group that is none."""
        return [n for g, n in self.custom if g == group] or list(self._rows(group))

    def _module(self, group: str) -> Any:
        return self.rt.modules.get(_MODULES.get(group, group))

    def _rows(self, group: str) -> dict[str, dict[str, Any]]:
        """The variables of the core, of its streams, or of a module that is loaded."""
        if group not in _CORE_PREFIXES and self._module(group) is None:
            return {}
        return catalogue.cfg_group(group)

    # -- values ----------------------------------------------------------------------------------------------------------

    def read(self, group: str, name: str, instance: int | None = None) -> Value | None:
        """None for a variable that is none, and for one of which kamc has no value."""
        if instance is not None and name in self.instances.get((group, instance), {}):
            return self.instances[group, instance][name]
        if instance is not None and (group, name) in self._behind:
            return self._behind[group, name]
        return self._read(group, name)

    def _read(self, group: str, name: str) -> Value | None:
        if (group, name) in self.custom:
            return self.custom[group, name]
        if name not in self._rows(group):
            return None
        found: Any
        if group in _CORE_PREFIXES:
            found = self.rt.log.level if (group, name) == ("core", "debug") else self.rt.param(f"{_CORE_PREFIXES[group]}{name}")
        else:
            module = self._module(group)
            found = getattr(module.p, module.runtime_names.get(name, name), None)
        return found if isinstance(found, int | str) else None

    def converted(self, group: str, name: str, value: Value) -> Value:
        """A value as the variable has it. Raises ValueError for a variable that is none or cannot be changed, and for a value that it cannot have."""
        current = self._read(group, name)
        if current is None:
            raise ValueError(f"{group}.{name} cannot be set")
        if isinstance(current, str):
            return str(value)
        number, row = int(value), self._rows(group).get(name, {})
        if row.get("readonly") or ("max" in row and not row.get("min", number) <= number <= row["max"]):
            raise ValueError(f"{group}.{name} cannot be {number}")
        return number

    def change(self, group: str, name: str, value: Value, instance: int | None = None) -> None:
        """Set a variable to a value of its type, of the group or of an instance. Raises KeyError for an instance that is none."""
        if instance is not None:
            self.instances[group, instance][name] = value
        elif (group, name) in self._behind:
            self._behind[group, name] = value
        else:
            self._write(group, name, value)

    def _write(self, group: str, name: str, value: Value) -> None:
        if (group, name) in self.custom:
            self.custom[group, name] = value
        elif (group, name) == ("core", "debug"):
            self.rt.log.level = int(value)
        elif group in _CORE_PREFIXES:
            self.rt.params[f"{_CORE_PREFIXES[group]}{name}"] = value
            self.rt.params_changed()
        else:
            module = self._module(group)
            setattr(module.p, module.runtime_names.get(name, name), value)
            module.setting_changed(name)

    # -- instances -------------------------------------------------------------------------------------------------------

    def select(self, group: str, instance: int) -> bool:
        """Have the run at work see an instance in the place of the group, until it ends. False where there is none, or no run."""
        waits = self.rt.worker.waits
        if (group, instance) not in self.instances or waits.job is None:
            return False
        if not self.selected:
            waits.job.at_end.append(self.reset)
        if self.put_aside not in self.rt.hooks.aside:
            self.rt.hooks.aside.append(self.put_aside)
        self.reset(group)
        self.selected[group] = instance
        for name, value in self.instances[group, instance].items():
            before = self._read(group, name)
            if before is not None:
                self._behind[group, name] = before
                self._write(group, name, value)
        return True

    def reset(self, group: str | None = None) -> None:
        """Have the run at work see a group itself again, or all groups."""
        for key in [k for k in self._behind if group in (None, k[0])]:
            self._write(*key, self._behind.pop(key))
        if group is None:
            self.selected.clear()
        else:
            self.selected.pop(group, None)

    def put_aside(self) -> Callable[[], None]:
        """The run at work waits: others see the groups themselves. What is given brings its choice back."""
        chosen = dict(self.selected)
        self.reset()

        def bring_back() -> None:
            for group, instance in chosen.items():
                self.select(group, instance)

        return bring_back
