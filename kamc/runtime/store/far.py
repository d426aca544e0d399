"""Tables that several servers share, kept in a Redis and read from memory.

Every worker of every server holds a copy. A change is a compare-and-set in Redis, so two servers that change one entry both see it; in the same step it is
published, and a thread of each worker hears of it and gives it to the loop. While Redis is away the worker goes on with its copy; its own changes are
kept and are written when Redis is back, when it also takes what the others have changed meanwhile.

Keys: ``kamc:t:TABLE`` hashes of entries, ``kamc:tables`` their names, ``kamc:seq`` the number of the last change (it begins with
the time, so one that was emptied goes on with higher numbers), ``kamc:secret``; channels ``kamc:changes``,
``kamc:words``.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from kamc.errors import ConfigError
from kamc.runtime.log import Log
from kamc.runtime.store.mirror import Codec, Mirror
from kamc.runtime.store.shared import Marks, SharedTable

if TYPE_CHECKING:
    import redis

#: tables of one server alone are not shared: its connections, its dialogs (their counts are), its locks
_SHARED: Final = ("usrloc.", "presence.", "htable.", "auth.", "topos.", "topoh", "shv")
_TABLE: Final = "kamc:t:"
_TABLES, _SEQ, _SECRET, _CHANGES, _WORDS = "kamc:tables", "kamc:seq", "kamc:secret", "kamc:changes", "kamc:words"
#: seconds that a command may take before Redis counts as away, and between two tries to reach it
_PATIENCE: Final = 0.5
_RETRY: Final = 0.3
#: seconds between two signs of life of a worker, and without one before it counts as gone
BEAT: Final = 2.0
_SILENCE: Final = 7.0
#: tries to change one entry that others change, too
_TRIES: Final = 50

# KEYS: table, tables, seq; ARGV: field, whether it must be there, what it must be, whether it will be, what, name of the table, sender, channel
_EXCHANGE: Final = """
local now = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[2] ~= '2' and ((now ~= false) ~= (ARGV[2] == '1') or (now and now ~= ARGV[3])) then
  return {0, tonumber(redis.call('GET', KEYS[3]) or '0'), now}
end
if redis.call('EXISTS', KEYS[3]) == 0 then
  redis.call('SET', KEYS[3], redis.call('TIME')[1] .. '000000')
end
local seq = redis.call('INCR', KEYS[3])
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[5])
  redis.call('SADD', KEYS[2], ARGV[6])
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
redis.call('PUBLISH', ARGV[8], string.format('%.0f', seq)
  .. ' ' .. ARGV[7] .. ' ' .. ARGV[4] .. ' ' .. #ARGV[6] .. ' ' .. #ARGV[1] .. ' ' .. ARGV[6] .. ARGV[1] .. ARGV[5])
return {1, seq, false}
"""


def library() -> Any:
    """The package redis. Raises ConfigError."""
    try:
        import redis
    except ImportError:
        raise ConfigError("a store in Redis needs the package redis: pip install 'kamc[redis]'") from None
    return redis


def is_far(store: str | None) -> bool:
    """Whether a ``--store`` names a Redis."""
    return store is not None and store.partition("://")[0] in ("redis", "rediss", "unix")


def common_secret(url: str, proposed: str) -> str:
    """One secret for all servers: what one has given out, the others understand. Raises ConfigError."""
    redis = library()
    try:
        with redis.Redis.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE) as client:
            client.set(_SECRET, proposed, nx=True)
            found = client.get(_SECRET)
    except (redis.RedisError, ValueError, OSError) as err:
        raise ConfigError(f"cannot use the store at {shown(url)}: {err}") from None
    return found.decode("latin-1") if isinstance(found, bytes) else proposed


class Change(NamedTuple):
    """What somebody has done: ``raw`` is None for an entry that is gone."""

    seq: int
    sender: str
    table: str
    field: bytes
    raw: bytes | None


def read_change(data: bytes) -> Change:
    """Raises ValueError."""
    try:
        seq, sender, there, table_size, field_size, rest = data.split(b" ", 5)
        at, end = int(table_size), int(table_size) + int(field_size)
        return Change(int(seq), sender.decode(), rest[:at].decode("latin-1"), rest[at:end], rest[end:] if there == b"1" else None)
    except UnicodeDecodeError as err:
        raise ValueError(str(err)) from None


class _Copy:
    """A table as this worker knows it."""

    __slots__ = ("floor", "own", "rows")

    def __init__(self, rows: dict[bytes, bytes], floor: int) -> None:
        self.rows = rows
        #: changes up to this number are in it
        self.floor = floor
        #: entries that this worker has just changed → the number of its change: what was published before is older
        self.own: dict[bytes, int] = {}


class Far:
    """The tables and the words of all servers on one Redis. Raises ConfigError when it cannot be reached at start."""

    def __init__(self, url: str, log: Log, sender: str) -> None:
        self._redis = redis = library()
        self.url, self.log, self.sender = url, log, sender
        self._tables: dict[str, _Copy] = {}
        self.marks: dict[str, Marks] = {}
        #: changes that Redis does not know of
        self._pending: dict[tuple[str, bytes], bytes | None] = {}
        self.up = True
        self.closed = False
        #: what the thread has heard and the loop has not taken yet
        self._heard: deque[Callable[[], None]] = deque()
        self.wake: Callable[[], None] = lambda: None
        #: other workers, of this server too → when they were last heard of
        self.others: dict[str, float] = {}
        self.on_word: Callable[[str, list[Any]], None] = lambda sender, word: None
        self.on_joined: Callable[[str], None] = lambda sender: None
        self.on_lost: Callable[[str], None] = lambda sender: None
        try:
            self._client = self._connect()
            self._exchange = self._client.register_script(_EXCHANGE)
            self._pubsub = self._subscribe()
            for name in self.names():
                self._copy(name)
        except (redis.RedisError, ValueError, OSError) as err:
            raise ConfigError(f"cannot use the store at {shown(url)}: {err}") from None
        self._broken = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="kamc store", daemon=True)
        self._thread.start()

    def _connect(self) -> redis.Redis:
        return cast("redis.Redis", self._redis.Redis.from_url(self.url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE))

    def _subscribe(self) -> Any:
        found: Any = cast(Any, self._connect()).pubsub(ignore_subscribe_messages=False)
        found.subscribe(_CHANGES, _WORDS)
        for _ in range(2):
            if found.get_message(timeout=_PATIENCE) is None:
                raise self._redis.ConnectionError("no answer to SUBSCRIBE")
        return found

    # -- tables ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def holds(name: str) -> bool:
        return name.startswith(_SHARED)

    def table(self, clock: Callable[[], float], name: str, codec: Codec, *, collected: bool) -> SharedTable:
        marks = self.marks[name] = Marks(2)
        self._copy(name)
        return SharedTable(clock, FarMirror(self, self.log), name, codec, marks, 0, collected=collected)

    def names(self) -> list[str]:
        try:
            return sorted(name.decode("latin-1") for name in self._client.smembers(_TABLES) if isinstance(name, bytes)) if self.up else list(self._tables)
        except (self._redis.RedisError, OSError):
            return list(self._tables)

    def _copy(self, name: str) -> _Copy:
        found = self._tables.get(name)
        if found is None:
            try:
                floor, rows = self._snapshot(self._client, name) if self.up else (0, {})
            except (self._redis.RedisError, OSError) as err:
                self._away(err)
                floor, rows = 0, {}
            found = self._tables[name] = _Copy(rows, floor)
        return found

    @staticmethod
    def _snapshot(client: redis.Redis, name: str) -> tuple[int, dict[bytes, bytes]]:
        pipe = client.pipeline(transaction=True)
        pipe.get(_SEQ)
        pipe.hgetall(_TABLE + name)
        seq, rows = pipe.execute()
        return int(seq or 0), rows

    def exchange(self, name: str, field: bytes, change: Callable[[bytes | None], bytes | None]) -> None:
        copy = self._copy(name)
        for _ in range(_TRIES):
            before = copy.rows.get(field)
            after = change(before)
            if after == before:
                return
            if not self.up:
                self._pending[name, field] = after
                self._keep(copy, field, after)
                return
            try:
                done, seq, now = self._write(name, field, before, after)
            except (self._redis.RedisError, OSError) as err:
                self._away(err)
                continue
            copy.own[field] = seq
            self._keep(copy, field, after if done else now)
            if done:
                return
        raise ValueError("others change it all the time")

    def _write(self, name: str, field: bytes, before: bytes | None, after: bytes | None, *, force: bool = False) -> tuple[bool, int, bytes | None]:
        done, seq, now = self._exchange(keys=[_TABLE + name, _TABLES, _SEQ], args=[
            field, "2" if force else "0" if before is None else "1", before or b"", "0" if after is None else "1", after or b"", name.encode("latin-1", "replace"),
            self.sender, _CHANGES,
        ])  # fmt: skip
        return bool(done), int(seq), now

    @staticmethod
    def _keep(copy: _Copy, field: bytes, raw: bytes | None) -> None:
        if raw is None:
            copy.rows.pop(field, None)
        else:
            copy.rows[field] = raw

    def rows(self, name: str) -> dict[bytes, bytes]:
        return self._copy(name).rows

    def clear(self, name: str) -> None:
        for field in list(self.rows(name)):
            self.exchange(name, field, lambda before: None)

    # -- words -----------------------------------------------------------------------------------------------------------

    def say(self, *word: Any) -> None:
        """To all other workers of all servers: plain data."""
        if not self.up:
            return
        try:
            self._client.publish(_WORDS, json.dumps([self.sender, *word]))
        except (self._redis.RedisError, OSError) as err:
            self._away(err)

    def beat(self) -> None:
        """Now and then: a sign of life, and a look at who gives none any more."""
        self.say("alive")
        now = time.monotonic()
        for sender, heard in list(self.others.items()):
            if self.up and now - heard > _SILENCE:
                self._lose(sender)

    def _lose(self, sender: str) -> None:
        if self.others.pop(sender, None) is not None:
            self.on_lost(sender)

    # -- what others do --------------------------------------------------------------------------------------------------

    def take(self) -> None:
        """In the loop: what the thread has heard."""
        while self._heard:
            self._heard.popleft()()

    def _post(self, work: Callable[[], None]) -> None:
        self._heard.append(work)
        self.wake()

    def _follow(self, data: bytes) -> None:
        try:
            change = read_change(data)
        except ValueError as err:
            self.log.error("store: a change that cannot be read: %s", err)
            return
        # a table that nobody here has asked for is followed, too: it may be asked for when Redis is away
        copy = self._copy(change.table)
        if change.seq <= copy.floor:
            return
        own = copy.own.get(change.field)
        if own is not None:
            if change.seq >= own:
                del copy.own[change.field]
            if change.seq <= own:
                return
        if (change.table, change.field) not in self._pending:
            self._keep(copy, change.field, change.raw)
            self._mark(change.table)

    def _mark(self, name: str) -> None:
        marks = self.marks.get(name)
        if marks is not None:
            marks.bump(marks.row(name), 1)

    def _hear(self, data: bytes) -> None:
        try:
            sender, kind, *rest = json.loads(data)
        except (ValueError, TypeError, RecursionError) as err:
            self.log.error("store: a word that cannot be read: %s", err)
            return
        if sender == self.sender:
            return
        if kind == "gone":
            self._lose(sender)
            return
        new = sender not in self.others
        self.others[sender] = time.monotonic()
        if new:
            self.on_joined(sender)
        if kind != "alive":
            self.on_word(sender, [kind, *rest])

    # -- Redis is away, and back -----------------------------------------------------------------------------------------

    def _away(self, err: Exception) -> None:
        """A command has failed: the thread is to connect again."""
        if self.up:
            self._lost(err)
            self._broken.set()

    def _lost(self, err: Exception) -> None:
        if self.up:
            self.up = False
            self.log.error("store: Redis at %s is away, going on without it: %s", shown(self.url), err)

    def _back(self, tables: dict[str, tuple[int, dict[bytes, bytes]]]) -> None:
        """In the loop: take what is there, write what is not."""
        self.up = True
        for name, (floor, rows) in tables.items():
            copy = self._copy(name)
            mine = {field: raw for (table, field), raw in self._pending.items() if table == name}
            copy.rows, copy.floor = rows, floor
            copy.own.clear()
            for field, raw in mine.items():
                self._keep(copy, field, raw)
            self._mark(name)
        for (name, field), raw in list(self._pending.items()):
            try:
                _, seq, _ = self._write(name, field, None, raw, force=True)
            except (self._redis.RedisError, OSError) as err:
                self._away(err)
                return
            self._copy(name).own[field] = seq
            del self._pending[name, field]
        self.log.notice("store: Redis at %s is back", shown(self.url))

    def _listen(self) -> None:
        """The thread: what Redis publishes, and coming back to one that was away."""
        while not self.closed:
            try:
                if self._broken.is_set():
                    raise self._redis.ConnectionError("lost")
                message = self._pubsub.get_message(timeout=0.25)
            except (self._redis.RedisError, OSError, ValueError) as err:
                if self.closed:
                    return
                self._post(partial(self._lost, err))
                self._return()
                continue
            if message is not None and message["type"] == "message":
                self._post(partial(self._follow if message["channel"] == _CHANGES.encode() else self._hear, message["data"]))

    def _return(self) -> None:
        while not self.closed:
            time.sleep(_RETRY)
            try:
                self._pubsub = self._subscribe()
                client = self._connect()
                names = {*self._tables, *(name.decode("latin-1") for name in client.smembers(_TABLES) if isinstance(name, bytes))}
                tables = {name: self._snapshot(client, name) for name in names}
                client.close()
            except (self._redis.RedisError, OSError):
                continue
            self._broken.clear()
            self._post(partial(self._back, tables))
            return

    def close(self) -> None:
        self.say("gone")
        self.closed = True
        self._thread.join(2)
        self._client.close()


class FarMirror(Mirror):
    """The copies of the tables of :class:`Far`, as :class:`~.shared.SharedTable` wants them."""

    def __init__(self, far: Far, log: Log) -> None:
        self.far, self.log, self.failed = far, log, 0

    def raw(self, name: str, key: str) -> bytes | None:
        return self.far.rows(name).get(key.encode("latin-1", "replace"))

    def rows(self, name: str) -> list[tuple[str, bytes]]:
        return [(field.decode("latin-1"), raw) for field, raw in self.far.rows(name).items()]

    def count(self, name: str) -> int:
        return len(self.far.rows(name))

    def exchange(self, name: str, key: str, change: Callable[[bytes | None], bytes | None]) -> None:
        try:
            self.far.exchange(name, key.encode("latin-1", "replace"), change)
        except ValueError as err:
            self._failed(name, err)

    def clear(self, name: str) -> None:
        self.far.clear(name)

    def sync(self) -> None:
        """Redis does that."""

    def close(self) -> None:
        """The owner of ``far`` closes it."""


def shown(url: str) -> str:
    """A URL for messages: without the password."""
    scheme, sep, rest = url.partition("://")
    return f"{scheme}{sep}{rest.rpartition('@')[2]}"
