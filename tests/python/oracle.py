"""JSON from and to protobuf, as Google's own library for Python does it. See tests/tests/python_oracle.rs.

    oracle.py make SET SEED COUNT   random messages: {"type", "wire", "json"} a line
    oracle.py spoil SET SEED COUNT  random JSON, most of it spoiled: {"type", "json", "wire"}; "wire" is null where it is refused
    oracle.py judge SET             what was made of these, on stdin, one a line: prints what differs

Where the standard leaves room, this is made equal before it is compared:

- wire: order of fields and of map entries, packed or not, however varints are written: read and written again here.
- wire inside an Any: the same, all the way down.
- JSON: order of keys; white space; 5 and 5.0 for one double; which of several texts that read as one number.
"""

import base64
import json
import math
import random
import struct
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

TYPES = ["golden.All", "golden.Aliased", "golden.Book", "golden.Deep", "golden.Inner", "golden.Legacy", "golden.modern.Modern"]
# What an Any may hold.
HELD = ["golden.Inner", "golden.Nothing", "golden.Book", "google.protobuf.Duration", "google.protobuf.Int64Value",
        "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.Any"]
LETTERS = "abzAZ09 _-\"\\/\b\f\n\r\t\0\x1f\x7f\u00e9\u20ac\u2028\u2029\ufeff\uffff\U0001f600\U0010ffff<>&'{}[]:,"
DEPTH = 4


def plain(number):
    """JSON knows one NaN."""
    return math.nan if math.isnan(number) else number


class Schema:
    """The types of a descriptor set."""

    def __init__(self, path):
        self.pool = descriptor_pool.DescriptorPool()
        files = descriptor_pb2.FileDescriptorSet.FromString(open(path, "rb").read())
        for file in files.file:
            self.pool.Add(file)
        message_factory.GetMessageClassesForFiles([file.name for file in files.file], self.pool)

    def new(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))()

    def known(self):
        names = []
        for name in TYPES:
            try:
                self.pool.FindMessageTypeByName(name)
                names.append(name)
            except KeyError:
                pass
        return names


class Maker:
    """Random messages, the same for the same seed."""

    def __init__(self, schema, seed):
        self.schema = schema
        self.random = random.Random(seed)

    def integer(self, low, high):
        near = [low, high, 0, 1, -1, low + 1, high - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**31, 2**32]
        choice = self.random.choice(near) if self.random.random() < 0.5 else self.random.randint(low, high)
        return choice if low <= choice <= high else self.random.randint(low, high)

    def double(self):
        kind = self.random.random()
        if kind < 0.1:
            return self.random.choice([math.nan, math.inf, -math.inf, 0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e21, 1e-7])
        if kind < 0.5:
            return float(self.random.randint(-1000, 1000)) / 8
        return plain(struct.unpack("<d", self.random.randbytes(8))[0])

    def float(self):
        kind = self.random.random()
        if kind < 0.2:
            # The largest one is left out: this library writes it as a number that it does not read.
            return self.random.choice([math.nan, math.inf, -math.inf, 0.0, 1.401298464324817e-45, 3.4028232635611926e38, 16777216.0])
        return plain(struct.unpack("<f", self.random.randbytes(4))[0])

    def text(self):
        return "".join(self.random.choice(LETTERS) for _ in range(self.random.choice([0, 1, 2, 5, 20])))

    def word(self):
        return "".join(self.random.choice("abcxyz") for _ in range(self.random.randint(1, 5)))

    def bytes(self):
        return self.random.randbytes(self.random.choice([0, 1, 2, 3, 4, 33]))

    def scalar(self, field):
        kinds = {
            field.TYPE_DOUBLE: self.double,
            field.TYPE_FLOAT: self.float,
            field.TYPE_BOOL: lambda: self.random.random() < 0.5,
            field.TYPE_STRING: self.text,
            field.TYPE_BYTES: self.bytes,
        }
        if field.type in kinds:
            return kinds[field.type]()
        if field.type == field.TYPE_ENUM:
            if field.enum_type.full_name == "google.protobuf.NullValue":
                return 0
            if not field.enum_type.is_closed and self.random.random() < 0.1:
                return self.random.choice([77, -5, 2**31 - 1])
            return self.random.choice(field.enum_type.values).number
        signed = field.type in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_SFIXED32, field.TYPE_INT64,
                                field.TYPE_SINT64, field.TYPE_SFIXED64)
        wide = field.type in (field.TYPE_INT64, field.TYPE_SINT64, field.TYPE_SFIXED64, field.TYPE_UINT64, field.TYPE_FIXED64)
        bits = 64 if wide else 32
        return self.integer(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else self.integer(0, 2**bits - 1)

    def fill(self, message, depth=0, chance=None):
        name = message.DESCRIPTOR.full_name
        if name.startswith("google.protobuf."):
            special = getattr(self, "fill_" + name.rsplit(".", 1)[1].lower(), None)
            if special:
                special(message, depth)
                return
        chance = chance or self.random.choice([0.05, 0.2, 0.5])
        for field in list(message.DESCRIPTOR.fields) + self.extensions(message):
            if field.is_required or self.random.random() < chance / (1 + depth):
                self.set(message, field, depth)

    def extensions(self, message):
        return list(self.schema.pool.FindAllExtensions(message.DESCRIPTOR)) if message.DESCRIPTOR.is_extendable else []

    def set(self, message, field, depth):
        is_message = field.message_type is not None
        if is_message and depth >= DEPTH:
            return
        count = self.random.choice([1, 1, 2, 5])
        if is_message and field.message_type.GetOptions().map_entry:
            entries = getattr(message, field.name)
            key, value = field.message_type.fields
            for _ in range(count):
                if value.message_type is not None:
                    self.fill(entries[self.scalar(key)], depth + 1)
                else:
                    entries[self.scalar(key)] = self.scalar(value)
            return
        if field.is_extension:
            message.Extensions[field] = self.scalar(field)
        elif field.is_repeated:
            values = getattr(message, field.name)
            for _ in range(count):
                if is_message:
                    self.fill(values.add(), depth + 1)
                else:
                    values.append(self.scalar(field))
        elif is_message:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self.fill(inner, depth + 1)
        else:
            setattr(message, field.name, self.scalar(field))

    def nanos(self):
        return self.random.choice([0, 0, 500_000_000, 120_000, 1, 999_999_999, self.random.randint(0, 999_999_999)])

    def fill_timestamp(self, message, _depth):
        message.seconds = self.random.choice([0, -1, -62135596800, 253402300799, self.random.randint(-62135596800, 253402300799)])
        message.nanos = self.nanos()

    def fill_duration(self, message, _depth):
        sign = self.random.choice([1, -1])
        seconds = self.random.choice([0, 1, 315576000000, self.random.randint(0, 315576000000)])
        message.seconds = sign * seconds
        message.nanos = 0 if seconds == 315576000000 else sign * self.nanos()

    def fill_fieldmask(self, message, _depth):
        for _ in range(self.random.choice([0, 1, 3])):
            message.paths.append(".".join("_".join(self.word() for _ in range(self.random.choice([1, 2]))) for _ in range(self.random.choice([1, 2]))))

    def json_value(self, depth):
        kinds = [lambda: None, lambda: True, lambda: False, self.text, lambda: float(self.random.randint(-99, 99)) / 4]
        if depth < DEPTH:
            kinds += [lambda: [self.json_value(depth + 1) for _ in range(self.random.choice([0, 1, 3]))],
                      lambda: {self.text(): self.json_value(depth + 1) for _ in range(self.random.choice([0, 1, 3]))}]
        return self.random.choice(kinds)()

    def fill_value(self, message, depth):
        json_format.ParseDict(self.json_value(depth), message)

    def fill_struct(self, message, depth):
        json_format.ParseDict({self.text(): self.json_value(depth + 1) for _ in range(3)}, message)

    def fill_listvalue(self, message, depth):
        json_format.ParseDict([self.json_value(depth + 1) for _ in range(3)], message)

    def fill_any(self, message, depth):
        held = self.schema.new(self.random.choice(HELD if depth < DEPTH - 1 else HELD[:2]))
        self.fill(held, depth + 1)
        message.Pack(held, deterministic=True)


def tell(message, schema, **options):
    return json_format.MessageToJson(message, descriptor_pool=schema.pool, ensure_ascii=False, **options)


def make(schema, seed, count):
    maker = Maker(schema, seed)
    names = schema.known()
    for number in range(count):
        name = names[number % len(names)] if number % 2 else names[0]
        message = schema.new(name)
        maker.fill(message)
        options = {"preserving_proto_field_name": maker.random.random() < 0.3, "indent": maker.random.choice([None, None, 2]),
                   "always_print_fields_with_no_presence": maker.random.random() < 0.2,
                   "use_integers_for_enums": maker.random.random() < 0.2}
        yield {"type": name, "wire": encoded(message), "json": tell(message, schema, **options)}


def settled(message):
    """The same, with the bytes inside every Any in one order: to all readers they are only bytes."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in value:
                    settled(value[key])
        elif field.is_repeated:
            for item in value:
                settled(item)
        else:
            settled(value)
    if message.DESCRIPTOR.full_name == "google.protobuf.Any" and message.type_url:
        held = message_factory.GetMessageClass(message.DESCRIPTOR.file.pool.FindMessageTypeByName(message.TypeName()))()
        held.MergeFromString(message.value)
        message.value = settled(held).SerializePartialToString(deterministic=True)
    return message


def encoded(message):
    # Partial: what is spoiled may lack what is required.
    return base64.b64encode(settled(message).SerializePartialToString(deterministic=True)).decode()


def read(schema, name, text):
    """The message, or None where it is refused."""
    message = schema.new(name)
    try:
        json_format.Parse(text, message, descriptor_pool=schema.pool)
    except (json_format.ParseError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    return message


REPLACEMENTS = ["null", "true", "1", "-1", "0.5", "1e2", "1e400", '""', '"a"', '"1"', '"1.0"', "[]", "{}", "[null]", "01", "NaN",
                '"NaN"', '"Infinity"', "4294967296", "9223372036854775808", '"2026-01-02T03:04:05Z"', '"1.5s"', '"\\ud800"',
                '"a!"', '"-_8"', "[1,]", "+1", "1.", ".5", "tru", "'a'", '"ALIAS_SAME"', '"aB_c"', '"+1"', '" 1"', '"0x1"']


def spoil(schema, seed, count):
    maker = Maker(schema, seed)
    names = schema.known()
    for number in range(count):
        name = names[number % len(names)] if number % 2 else names[0]
        message = schema.new(name)
        maker.fill(message, depth=2)
        text = spoiled(maker.random, tell(message, schema, indent=None))
        message = read(schema, name, text)
        yield {"type": name, "json": text, "wire": None if message is None else encoded(message)}


def spoiled(rng, text):
    kind = rng.random()
    if kind < 0.5:
        # Another value in the place of one.
        places = [at for at, letter in enumerate(text) if letter in ":[,"]
        if places:
            at = rng.choice(places) + 1
            end = at + 1
            while end < len(text) and text[end] not in ",]}":
                end += 1
            return text[:at] + rng.choice(REPLACEMENTS) + text[end:]
    at = rng.randrange(len(text))
    if kind < 0.65:
        return text[:at] + text[at + 1:]
    if kind < 0.8:
        return text[:at] + rng.choice("{}[]:,\"\\0e-. ntx\u00e9\0") + text[at:]
    if kind < 0.9 and len(text) > 2:
        # The same members once more.
        return text[:-1] + "," + text[1:]
    return text[:at]


def judge(schema):
    """Each line: what was given, and what the other made of it: "made" in base64 or null, "told" as JSON or null."""
    for line in sys.stdin:
        given = json.loads(line)
        why = differs(schema, given)
        if why:
            print(json.dumps({"why": why, **given}))


def differs(schema, given):
    name = given["type"]
    if given.get("refused") is not None and given["wire"] is not None:
        return "refused there, accepted here"
    if given["wire"] is None:
        return None if given.get("refused") is not None else "accepted there, refused here"
    mine = base64.b64decode(given["wire"])
    if "made" in given:
        made = schema.new(name)
        made.MergeFromString(base64.b64decode(given["made"]))
        if encoded(made) != given["wire"]:
            return "JSON became another message"
    if "told" in given:
        message = schema.new(name)
        message.MergeFromString(mine)
        if not alike(json.loads(given["told"]), json.loads(tell(message, schema))):
            return "the message was told otherwise"
        again = read(schema, name, given["told"])
        if again is None or encoded(again) != given["wire"]:
            return "what was told reads as another message"
    return None


def alike(one, other):
    """Equal, numbers as the narrowest type they may have come from: whether it is the same number, the bytes tell."""
    if isinstance(one, float) or isinstance(other, float):
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, other))
        return numbers and (one == other or narrow(one) == narrow(other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return type(one) is type(other) and one == other


def narrow(number):
    try:
        return struct.pack("<f", number)
    except OverflowError:
        return number


def main():
    what, path, *numbers = sys.argv[1:]
    schema = Schema(path)
    sys.stdin.reconfigure(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    if what == "judge":
        judge(schema)
        return
    for line in {"make": make, "spoil": spoil}[what](schema, *map(int, numbers)):
        print(json.dumps(line))


main()
