"""A second verifier of evidence bundles, written from docs/bundle.md alone.

It shares no code with the first one: the standard library, and Ed25519 from python3-cryptography.

    verify_bundle.py BUNDLE POLICY       one line: verified, incomplete, or rejected and the check; exit 0, 4 or 1
    verify_bundle.py --vectors FOLDER    all lines of FOLDER/index.txt; exit 0 when each comes out as it says
"""

import base64
import hashlib
import re
import struct
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ZERO = bytes(32)
NO_SESSION = 2**64 - 1
BUNDLE_MAX, BATCH_MAX, BATCH_HEADER_MAX, ENTRY_HEADER_MAX = 1 << 30, 2 << 20, 60 << 10, 4 << 10
BODY_MAX, ENTRIES_MAX, BATCHES_MAX, WAY_MAX, LINE_MAX = 256 << 10, 1024, 65536, 65536, 64
NOTE_MAX, ENROLMENT_MAX, STATEMENT_MAX, PROOF_HASHES_MAX, DEPTH_MAX = 64 << 10, 64 << 10, 512 << 10, 128, 16


class Rejected(Exception):
    """The name of the check that does not hold."""


def demand(check, holds):
    if not holds:
        raise Rejected(check)


# Bytes


class Fields:
    """Walks over bytes; a length beyond what is there is a fault of the format."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, length):
        demand("format", 0 <= length <= len(self.data) - self.at)
        self.at += length
        return self.data[self.at - length:self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def prefixed(self, longest):
        length = self.number(4)
        demand("format", length <= longest)
        return self.take(length)

    def rest(self):
        return len(self.data) - self.at


def unpack(data):
    """MessagePack of one value: maps with text keys, integers, text, bytes, lists, null."""
    fields = Fields(data)
    value = unpack_value(fields, DEPTH_MAX)
    demand("format", fields.rest() == 0)
    return value


def unpack_value(fields, depth):
    demand("format", depth > 0)
    tag = fields.number(1)
    if tag <= 0x7F:
        return tag
    if tag >= 0xE0:
        return tag - 0x100
    if tag == 0xC0:
        return None
    if tag in (0xC2, 0xC3):
        return tag == 0xC3
    for first, sizes, read in ((0xC4, (1, 2, 4), bytes_of), (0xD9, (1, 2, 4), text_of)):
        if first <= tag < first + 3:
            return read(fields, fields.number(sizes[tag - first]))
    if 0xCC <= tag <= 0xCF:
        return fields.number(1 << (tag - 0xCC))
    if 0xD0 <= tag <= 0xD3:
        size = 1 << (tag - 0xD0)
        return int.from_bytes(fields.take(size), "big", signed=True)
    if 0xA0 <= tag <= 0xBF:
        return text_of(fields, tag & 0x1F)
    if 0x90 <= tag <= 0x9F or tag in (0xDC, 0xDD):
        count = tag & 0x0F if tag <= 0x9F else fields.number(2 if tag == 0xDC else 4)
        demand("format", count <= fields.rest())
        return [unpack_value(fields, depth - 1) for _ in range(count)]
    if 0x80 <= tag <= 0x8F or tag in (0xDE, 0xDF):
        count = tag & 0x0F if tag <= 0x8F else fields.number(2 if tag == 0xDE else 4)
        demand("format", count <= fields.rest())
        value = {}
        for _ in range(count):
            key = unpack_value(fields, depth - 1)
            demand("format", isinstance(key, str) and key not in value)
            value[key] = unpack_value(fields, depth - 1)
        return value
    raise Rejected("format")


def bytes_of(fields, length):
    return fields.take(length)


def text_of(fields, length):
    try:
        return fields.take(length).decode()
    except UnicodeDecodeError:
        raise Rejected("format") from None


def field(record, name, kind, length=None):
    """A field that must be there, of this kind."""
    demand("format", isinstance(record, dict))
    value = record.get(name)
    demand("format", isinstance(value, kind) and not isinstance(value, bool))
    demand("format", length is None or len(value) == length)
    demand("format", kind is not int or 0 <= value < 2**64)
    return value


def optional(record, name, kind, length=None):
    return field(record, name, kind, length) if record.get(name) is not None else None


# Hashes, trees, signatures


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def leaf_hash(data):
    return sha256(b"\0", data)


def node_hash(left, right):
    return sha256(b"\1", left, right)


def tree_root(leaves):
    """RFC 6962, section 2.1."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return node_hash(tree_root(leaves[:split]), tree_root(leaves[split:]))


def included(leaf, index, size, root, proof):
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        return False
    place, last, value = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            value = node_hash(step, value)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            value = node_hash(value, step)
        place, last = place >> 1, last >> 1
    return last == 0 and value == root


def signed(key, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


# The policy and the checkpoint


def read_base64(text):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Rejected("checkpoint") from None


class Policy:
    """The keys that are believed, and who must have cosigned. A line that is not known here is not passed over."""

    def __init__(self, text):
        self.sink = self.log = None
        # By name: a key, or a threshold and names.
        self.members, self.counted, self.quorum = {}, set(), []
        for line in text.split("\n"):
            self.known(not re.search("[\x00-\x08\x0a-\x1f\x7f]", line), line)
            words = re.split("[ \t]+", line.strip(" \t"))
            if words != [""] and not words[0].startswith("#"):
                self.line(line, *words)
        self.known(self.sink and self.log and len(self.quorum) == 1, "sink, log or quorum, once each")
        own = (self.sink, self.log.key)
        for key in self.witnesses():
            self.known(key.key not in own, "the log or the sink is named as a witness of itself")

    @staticmethod
    def known(holds, line):
        if not holds:
            raise SystemExit(f"the policy has what is unknown or wrong here: {line}")

    def line(self, line, word, *rest):
        if word == "sink" and self.sink is None:
            self.known(len(rest) == 1, line)
            self.sink = bytes.fromhex(rest[0])
        elif word == "log" and self.log is None:
            self.known(1 <= len(rest) <= 2, line)
            self.log = Key(rest[0], 1)
        elif word == "witness":
            self.known(2 <= len(rest) <= 3 and rest[0] != "none" and rest[0] not in self.members, line)
            key = Key(rest[1], 4)
            self.known(all(key.key != other.key for other in self.witnesses()), line)
            self.members[rest[0]] = key
        elif word == "group":
            self.known(len(rest) >= 3 and rest[0] != "none" and rest[0] not in self.members, line)
            of = rest[2:]
            for name in of:
                self.known(name in self.members and name not in self.counted, line)
                self.counted.add(name)
            words = {"any": 1, "all": len(of)}
            self.known(rest[1] in words or re.fullmatch("[1-9][0-9]{0,3}", rest[1]), line)
            threshold = words.get(rest[1]) or int(rest[1])
            self.known(threshold <= len(of), line)
            self.members[rest[0]] = (threshold, of)
        else:
            self.known(word == "quorum" and len(rest) == 1, line)
            self.known(rest[0] == "none" or rest[0] in self.members, line)
            self.quorum.append(rest[0])

    def witnesses(self):
        return [member for member in self.members.values() if isinstance(member, Key)]

    def met(self, name, note):
        """Whether this witness, or enough of this group, cosigned."""
        if name == "none":
            return True
        member = self.members[name]
        if isinstance(member, Key):
            return member.cosigned(note)
        threshold, of = member
        return sum(self.met(one, note) for one in of) >= threshold


class Key:
    """A verifier key of C2SP signed-note: of kind 1, a log, or of kind 4, a witness."""

    def __init__(self, text, kind):
        self.name, key_id, encoded = text.split("+", 2)
        kind_and_key = base64.b64decode(encoded, validate=True)
        self.id, self.key = bytes.fromhex(key_id), kind_and_key[1:]
        right = sha256(self.name.encode(), b"\n", kind_and_key)[:4] == self.id
        if kind_and_key[0] != kind or len(kind_and_key) != 33 or not right:
            raise SystemExit(f"this is no key of C2SP signed-note, or none for this: {text}")

    def signed(self, note):
        text, signatures = note
        signature = signatures.get((self.name, self.id))
        return signature is not None and signed(self.key, text.encode(), signature)

    def cosigned(self, note):
        """C2SP tlog-cosignature, v1: a time before the signature."""
        text, signatures = note
        signature = signatures.get((self.name, self.id), b"")
        time = int.from_bytes(signature[:8], "big")
        message = f"cosignature/v1\ntime {time}\n{text}".encode()
        return len(signature) == 72 and time < 2**63 and signed(self.key, message, signature[8:])


def read_note(note):
    """Its text, and the first signature of each key. What does not hold is a fault of the checkpoint."""
    body, split, lines = note.rpartition("\n\n")
    demand("checkpoint", split and lines.endswith("\n"))
    signatures = {}
    for line in lines[:-1].split("\n"):
        found = re.fullmatch("— ([^ +]+) ([A-Za-z0-9+/=]+)", line)
        demand("checkpoint", found)
        name, value = found[1], read_base64(found[2])
        signatures.setdefault((name, value[:4]), value[4:])
    return body + "\n", signatures


def open_checkpoint(text, policy):
    """Size and root of a C2SP checkpoint that the policy's log signed and its witnesses cosigned; by how many."""
    note = read_note(text)
    parts = note[0][:-1].split("\n")
    demand("checkpoint", len(parts) >= 3 and parts[0] == policy.log.name)
    demand("checkpoint", re.fullmatch("0|[1-9][0-9]*", parts[1]) and int(parts[1]) < 2**64)
    root = read_base64(parts[2])
    demand("checkpoint", len(root) == 32 and policy.log.signed(note))
    demand("witnesses", policy.met(policy.quorum[0], note))
    return int(parts[1]), root, sum(key.cosigned(note) for key in policy.witnesses())


# The pieces of a bundle


class Place:
    """Where a leaf is in the log."""

    def __init__(self, data):
        fields = Fields(data)
        self.index, self.received = fields.number(8), fields.take(8)
        self.content = fields.take(32)
        demand("format", fields.rest() % 32 == 0)
        self.proof = [fields.take(32) for _ in range(fields.rest() // 32)]


class Batch:
    """A frame: what was signed of a batch, and its entries."""

    def __init__(self, frame):
        fields = Fields(frame)
        self.bytes = fields.prefixed(BATCH_HEADER_MAX)
        self.signature = fields.take(64)
        header = unpack(self.bytes)
        self.version = field(header, "version", int)
        self.host, self.boot = field(header, "host", bytes, 16), field(header, "boot", bytes, 16)
        self.epoch = read_epoch(header)
        self.number, self.first = field(header, "number", int), field(header, "first_seq", int)
        self.count, self.root = field(header, "count", int), field(header, "root", bytes, 32)
        self.previous = field(header, "previous", bytes, 32)
        self.next_key = field(header, "next_key", bytes, 32)
        self.opening = optional(header, "opening", dict)
        if self.opening is not None:
            self.key = field(self.opening, "key", bytes, 32)
            self.certificate = field(self.opening, "certificate", bytes, 64)
            line = optional(self.opening, "line", list) or []
            demand("format", len(line) <= LINE_MAX)
            self.line = [(field(step, "key", bytes, 32), field(step, "signature", bytes, 64)) for step in line]
            resume = optional(self.opening, "resume", dict)
            self.resumes = read_position(resume.get("local")) if resume and resume.get("local") else None
        self.hash = sha256(b"\2", self.bytes)
        self.entries = []
        while fields.rest():
            demand("format", len(self.entries) < ENTRIES_MAX)
            self.entries.append(Entry(fields))

    def is_whole(self):
        return all(entry.body is not None for entry in self.entries)

    def leaf(self, place):
        """The leaf of this batch in the log."""
        line = b"custody/1 leaf batch\n"
        return leaf_hash(line + self.host + place.received + place.content + self.signature + self.bytes)

    def line_of_keys(self, enrolled):
        """The keys of the host's line from the enrolled one on; None where a step is not signed by the key before."""
        keys = [enrolled]
        for key, signature in self.line:
            if not signed(keys[-1], b"custody/1 hand-over\n" + self.host + keys[-1] + key, signature):
                return None
            keys.append(key)
        return keys

    def certified(self, host_key):
        """The host's newest key certified the first key of the epoch."""
        statement = self.host + self.boot + struct.pack(">Q", self.epoch[0]) + self.epoch[1] + self.key
        return signed(host_key, b"custody/1 epoch\n" + statement, self.certificate)

    def signed_by(self, key):
        return signed(key, b"custody/1 batch\n" + self.bytes, self.signature)


def read_epoch(record):
    epoch = field(record, "epoch", dict)
    return field(epoch, "counter", int), field(epoch, "nonce", bytes, 16)


def read_position(record):
    """Epoch, number and hash of a batch."""
    return read_epoch(record), field(record, "number", int), field(record, "hash", bytes, 32)


class Entry:
    """A signed header, and its body unless that is left out."""

    def __init__(self, fields):
        self.bytes = fields.prefixed(ENTRY_HEADER_MAX)
        header = unpack(self.bytes)
        self.version, self.type = field(header, "version", int), field(header, "type", str)
        self.host, self.boot = field(header, "host", bytes, 16), field(header, "boot", bytes, 16)
        self.epoch, self.seq = read_epoch(header), field(header, "seq", int)
        self.session = optional(header, "session", int)
        self.body_length, self.body_hash = field(header, "body_bytes", int), field(header, "body", bytes, 32)
        self.previous = field(header, "previous", bytes, 32)
        marker = fields.number(1)
        demand("format", marker in (0, 1))
        self.salt = fields.take(16) if marker else None
        self.body = fields.prefixed(BODY_MAX) if marker else None
        self.leaf = leaf_hash(self.bytes)


def read_signed(data, check):
    """What a sink signed: message, key and signature."""
    try:
        outer = unpack(data)
        return field(outer, "message", bytes), field(outer, "sink", bytes, 32), field(outer, "signature", bytes, 64)
    except Rejected:
        raise Rejected(check) from None


class Statement:
    """What a sink says of bodies that go by age."""

    def __init__(self, data, policy):
        message, key, signature = read_signed(data, "retention.statement")
        demand("retention.signature", signed(key, b"custody/1 statement\n" + message, signature))
        try:
            statement = unpack(message)
            self.at, what = field(statement, "at_ns", int), field(statement, "what", dict)
            demand("format", list(what) == ["retention"])
            retention = field(what, "retention", dict)
            self.age, self.segment = field(retention, "age_s", int), field(retention, "segment", int)
            self.first, self.end = field(retention, "first", int), field(retention, "end", int)
            self.hosts = [
                (field(of, "host", bytes, 16), *(field(of, name, int) for name in ("batches", "bodies", "bytes")))
                for of in field(retention, "hosts", list)
            ]
        except Rejected:
            raise Rejected("retention.statement") from None
        demand("retention.signature", key == policy.sink)
        self.named, self.used, self.begun, self.bodies = 0, 0, False, 0

    def names(self, host):
        of_host = [batches for one, batches, *_ in self.hosts if one == host]
        self.named = sum(of_host)
        return bool(of_host)

    def covers(self, index):
        return self.first <= index < self.end


class Head:
    """Where the chain stands."""

    def __init__(self, batch, last_entry):
        self.epoch, self.number, self.hash = batch.epoch, batch.number, batch.hash
        self.boot, self.key = batch.boot, batch.next_key
        self.next_seq, self.last_entry = batch.first + batch.count, last_entry
        self.stopped = bool(batch.entries) and batch.entries[-1].type == "agent.stop"


# The verification itself, in the order of docs/bundle.md


class Verification:
    def __init__(self, policy):
        self.policy, self.head, self.first_batch = policy, None, True
        self.verified = self.redacted = self.gaps = self.around = self.batches = self.epochs = 0
        self.keys, self.seen, self.lost = "enrolled", None, False
        self.of_session = self.redacted_of_session = 0
        self.expired, self.expired_of_session, self.expiries = 0, 0, 0
        self.stated = None
        self.closed = False

    def run(self, data):
        demand("format", len(data) <= BUNDLE_MAX)
        fields = Fields(data)
        magic = fields.take(8)
        demand("format", magic in (b"CUSTBDL1", b"CUSTBDL2"))
        self.may_expire = magic == b"CUSTBDL2"
        self.read_range(self.wanted(fields, b"rang", 88))
        try:
            note = self.wanted(fields, b"note", NOTE_MAX).decode()
        except UnicodeDecodeError:
            raise Rejected("format") from None
        enrolment = self.wanted(fields, b"enro", ENROLMENT_MAX)
        place = self.place(fields)
        self.size, self.root, self.cosigned = open_checkpoint(note, self.policy)
        self.enrolment(enrolment, place)
        demand("range", (self.first_epoch[0], self.first) <= (self.last_epoch[0], self.last))
        whole_session = self.session == self.first and self.first_epoch == self.last_epoch
        demand("range", self.session is None or whole_session)
        self.parts(fields)
        demand("range", self.seen and self.seen[0] == self.last_epoch and self.seen[1] >= self.last)

    def parts(self, fields):
        way, anchored, statements, stated = 0, False, 0, False
        while True:
            tag = fields.take(4)
            leads = self.batches == 0 and not anchored and not stated
            if tag == b"head" and leads and way < WAY_MAX:
                way += 1
                self.way(Batch(fields.prefixed(BATCH_HEADER_MAX + 68)))
            elif tag == b"anch" and leads and way == 0:
                anchored = True
                self.anchor(Batch(fields.prefixed(BATCH_HEADER_MAX + 68)), self.place(fields))
            elif tag == b"stmt" and self.may_expire and not stated:
                stated, statements = True, statements + 1
                statement = fields.prefixed(STATEMENT_MAX)
                self.statement(statement, self.place(fields))
            elif tag == b"btch" and self.batches < BATCHES_MAX:
                stated = False
                frame = fields.prefixed(BATCH_MAX)
                self.batch(frame, self.place(fields))
            else:
                demand("format", tag == b"last" and self.batches > 0 and not stated)
                demand("format", self.may_expire == (statements > 0))
                demand("format", fields.number(4) == 0 and fields.rest() == 0)
                return

    @staticmethod
    def wanted(fields, tag, longest):
        demand("format", fields.take(4) == tag)
        return fields.prefixed(longest)

    def place(self, fields):
        return Place(self.wanted(fields, b"prov", 48 + 32 * PROOF_HASHES_MAX))

    def read_range(self, data):
        demand("format", len(data) == 88)
        fields = Fields(data)
        self.host = fields.take(16)
        self.first_epoch, self.first = (fields.number(8), fields.take(16)), fields.number(8)
        self.last_epoch, self.last = (fields.number(8), fields.take(16)), fields.number(8)
        session = fields.number(8)
        self.session = None if session == NO_SESSION else session

    def enrolment(self, data, place):
        message, key, signature = read_signed(data, "enrolment")
        try:
            inner = unpack(message)
            host, self.host_key = field(inner, "host", bytes, 16), field(inner, "key", bytes, 32)
            self.newest = self.host_key
        except Rejected:
            raise Rejected("enrolment") from None
        demand("enrolment", signed(key, b"custody/1 statement\n" + message, signature))
        demand("enrolment", key == self.policy.sink)
        demand("host", host == self.host)
        self.record(b"\2", data, place)

    def record(self, kind, data, place):
        """Something that the sink signed, and that is no batch, stands at its place. Nobody vouches for times there."""
        demand("format", place.received == bytes(8) and place.content == ZERO)
        self.inclusion(leaf_hash(b"custody/1 leaf record\n" + kind + sha256(data)), place)

    def inclusion(self, leaf, place):
        demand("inclusion", included(leaf, place.index, self.size, self.root, place.proof))

    def led(self, batch):
        """Way and anchor are heads alone, of the range's host and first epoch."""
        demand("way", batch.host == self.host and batch.epoch == self.first_epoch and not batch.entries)

    def way(self, batch):
        self.led(batch)
        head = self.head
        demand("way", (head is None) == (batch.opening is not None))
        if head is None:
            keys = batch.line_of_keys(self.host_key)
            demand("way", keys is not None and batch.certified(keys[-1]))
            self.newest = keys[-1]
            key, number, previous, seq = batch.key, 0, ZERO, 0
        else:
            key, number, previous, seq = head.key, head.number + 1, head.hash, head.next_seq
        demand("way", (batch.number, batch.previous, batch.first) == (number, previous, seq))
        demand("way", batch.signed_by(key))
        self.head = Head(batch, ZERO)

    def anchor(self, batch, place):
        self.led(batch)
        self.inclusion(batch.leaf(place), place)
        self.keys = f"anchored:{batch.number}"
        self.head = Head(batch, ZERO)

    def statement(self, data, place):
        statement = Statement(data, self.policy)
        demand("retention.host", statement.names(self.host))
        self.record(b"\3", data, place)
        demand("retention.place", statement.end <= place.index)
        demand("retention.order", self.stated is None or statement.first >= self.stated.end)
        self.stated = statement

    def lacks_what_expired(self, batch, frame, place):
        """Whether the bodies that a batch lacks have expired."""
        statement = self.stated
        if statement is None:
            return False
        covered = statement.covers(place.index)
        demand("retention.about", covered or statement.begun)
        statement.begun = True
        if not covered:
            return False
        demand("retention.body", all(entry.body is None for entry in batch.entries))
        if sha256(frame) == place.content:
            return False
        received = int.from_bytes(place.received, "big")
        demand("retention.age", received + statement.age * 10**9 <= statement.at)
        statement.used += 1
        demand("retention.batches", statement.used <= statement.named)
        return True

    def batch(self, frame, place):
        batch = Batch(frame)
        self.inclusion(batch.leaf(place), place)
        demand("content", not batch.is_whole() or sha256(frame) == place.content)
        expired = self.lacks_what_expired(batch, frame, place)
        first = self.batches == 0
        if first:
            holds = batch.first <= self.first < batch.first + batch.count
            demand("range", batch.epoch == self.first_epoch and holds)
            if self.head is not None:
                # Covered by the first batch's signature; the entry itself is not here.
                self.head.last_entry = batch.entries[0].previous if batch.entries else ZERO
        self.follow(batch)
        self.batches += 1
        self.epochs += first or batch.opening is not None
        for entry in batch.entries:
            self.count(entry, expired)

    def follow(self, batch):
        """The next step of the chain."""
        demand("chain.format", batch.version == 1)
        demand("chain.host", batch.host == self.host)
        head = self.head
        if batch.opening is not None:
            demand("chain.epoch", head is None or batch.epoch[0] > head.epoch[0])
            demand("chain.number", batch.number == 0)
            demand("chain.link", batch.previous == ZERO)
            keys = batch.line_of_keys(self.host_key)
            demand("chain.hand_over", keys is not None)
            demand("chain.key_line", self.newest in keys)
            self.newest = keys[-1]
            demand("chain.certificate", batch.certified(self.newest))
            demand("chain.signature", batch.signed_by(batch.key))
            # The new epoch names the last batch that the host held: another one than the last here is a hole.
            if head is not None:
                self.lost |= batch.resumes != (head.epoch, head.number, head.hash)
            seq, previous = 0, ZERO
        else:
            demand("chain.epoch", head is not None and head.epoch == batch.epoch)
            demand("chain.number", batch.number == head.number + 1)
            demand("chain.link", batch.previous == head.hash)
            demand("chain.signature", batch.signed_by(head.key))
            demand("chain.stop", not head.stopped)
            demand("chain.sequence", batch.boot == head.boot)
            seq, previous = head.next_seq, head.last_entry
        leaves = [entry.leaf for entry in batch.entries]
        demand("chain.tree", leaves and batch.count == len(leaves) and batch.root == tree_root(leaves))
        demand("chain.sequence", batch.first == seq)
        for entry in batch.entries:
            self.entry(batch, entry, seq, previous)
            demand("chain.stop", entry.type != "agent.stop" or entry is batch.entries[-1])
            seq, previous = seq + 1, entry.leaf
        self.head = Head(batch, previous)

    @staticmethod
    def entry(batch, entry, seq, previous):
        demand("chain.format", entry.version == 1)
        demand("chain.host", entry.host == batch.host)
        demand("chain.sequence", (entry.seq, entry.epoch, entry.boot) == (seq, batch.epoch, batch.boot))
        demand("chain.sequence", entry.session is None or entry.session <= seq)
        demand("chain.entry_link", entry.previous == previous)
        if entry.body is not None:
            same = len(entry.body) == entry.body_length
            demand("chain.body", same and sha256(b"\3", entry.salt, entry.body) == entry.body_hash)

    def count(self, entry, expired):
        self.seen = (entry.epoch, entry.seq)
        at = (entry.epoch[0], entry.seq)
        if not (self.first_epoch[0], self.first) <= at <= (self.last_epoch[0], self.last):
            self.around += 1
            return
        expired = expired and entry.body is None
        absent = entry.body is None and not expired
        if expired:
            self.expiries += self.stated.bodies == 0
            self.stated.bodies += 1
        self.expired += expired
        self.gaps += entry.type == "gap"
        self.verified += entry.body is not None
        self.redacted += absent
        if self.session is not None and self.session in (entry.session, entry.seq):
            self.of_session += 1
            self.redacted_of_session += absent
            self.expired_of_session += expired
            self.closed |= entry.type == "session.close"

    def counts(self):
        session = "-"
        if self.session is not None:
            closed = "true" if self.closed else "false"
            session = f"{self.session}:{self.of_session}:{self.redacted_of_session}:{closed}"
        expired = f" expired={self.expired}:{self.expired_of_session}:{self.expiries}" if self.expired else ""
        return (
            f"verified={self.verified} redacted={self.redacted} gaps={self.gaps} around={self.around} "
            f"batches={self.batches} epochs={self.epochs} keys={self.keys} session={session} "
            f"witnesses={self.cosigned}{expired}"
        )


def verify(data, policy):
    """The verdict, and the check that rejects or what was counted."""
    verification = Verification(policy)
    try:
        verification.run(data)
    except Rejected as check:
        return "rejected", str(check)
    whole = not verification.lost and verification.redacted_of_session == 0
    return "verified" if whole else "incomplete", verification.counts()


def vectors(folder):
    wrong, seen = [], 0
    for line in (folder / "index.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, policy, verdict, detail = line.split(" ", 3)
        found = verify((folder / name).read_bytes(), Policy((folder / policy).read_text()))
        seen += 1
        if found != (verdict, detail):
            wrong.append(f"{name}: wanted {verdict} {detail}, found {' '.join(found)}")
    print("\n".join([*wrong, f"{seen} vectors, {len(wrong)} wrong"]))
    return 1 if wrong or not seen else 0


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[0] == "--vectors":
        return vectors(Path(arguments[1]))
    verdict, detail = verify(Path(arguments[0]).read_bytes(), Policy(Path(arguments[1]).read_text()))
    print(verdict, detail)
    return {"verified": 0, "incomplete": 4, "rejected": 1}[verdict]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
