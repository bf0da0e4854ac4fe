# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
python
import gdb, json, re

class StalelineModules(gdb.Command):
    """Load symbols of the modules that the guest has been given with --module, once the kernel has loaded
them: from before their init begins (hbreak do_init_module) on."""

    # What a guest says of itself may be anything.
    MODULES = SECTIONS = 512

    def __init__(self):
        super().__init__("staleline-modules", gdb.COMMAND_FILES)
        self.loaded = {}

    def invoke(self, argument, from_tty):
        found = self.told()
        found.update(self.listed())
        for name, sections in found.items():
            rest = dict(sections)
            text = rest.pop(".text", None)
            if text is None or self.loaded.get(name) == text:
                continue
            self.loaded[name] = text
            more = "".join(" -s %s %#x" % section for section in rest.items())
            gdb.execute("add-symbol-file %s %#x%s" % (STALELINE_MODULES[name], text, more))
        if not self.loaded:
            print("the kernel has not loaded any yet")

    def listed(self):
        """By the kernel's own list of modules."""
        found = {}
        try:
            # Not by the name alone: where the guest stands, that may be something else.
            head = int(gdb.lookup_global_symbol("modules").value().address)
            module = gdb.lookup_type("struct module")
            offset = [f.bitpos // 8 for f in module.fields() if f.name == "list"][0]
            at = self.word(head)
            for _ in range(self.MODULES):
                if at == head:
                    break
                entry = gdb.Value(at - offset).cast(module.pointer())
                name = entry["name"].string(errors="replace")
                if name in STALELINE_MODULES:
                    found[name] = self.sections(entry["sect_attrs"])
                at = self.word(at)
        except (gdb.error, AttributeError, IndexError, OverflowError, ValueError):
            # Before there is memory, or in a kernel that has it otherwise.
            pass
        return found

    def word(self, address):
        return int(gdb.parse_and_eval("*(unsigned long *)%d" % address))

    def sections(self, attributes):
        found = {}
        count = attributes["nsections"] if self.has(attributes, "nsections") else self.SECTIONS
        for n in range(min(int(count), self.SECTIONS)):
            one = attributes["attrs"][n]
            # Since 6.14 they are plain attributes, the last one empty.
            old = self.has(one, "address")
            name = one["battr"]["attr"]["name"] if old else one["attr"]["name"]
            if int(name) == 0:
                break
            address = int(one["address"] if old else one["private"])
            self.keep(found, name.string(errors="replace"), address)
        return found

    def has(self, value, name):
        kind = value.type.strip_typedefs()
        kind = kind.target() if kind.code == gdb.TYPE_CODE_PTR else kind
        return any(field.name == name for field in kind.strip_typedefs().fields())

    def keep(self, found, name, address):
        # Tables of symbols are the kernel's, and in no section of the file that gdb loads.
        if name in (".symtab", ".strtab"):
            return
        if re.fullmatch(r"[.\w]+", name) and isinstance(address, int) and address >= 0:
            found[name] = address

    def told(self):
        """By what the agent has said on the console."""
        found = {}
        for log in STALELINE_CONSOLES:
            try:
                with open(log, errors="replace") as lines:
                    for line in lines:
                        self.take(line, found)
            except OSError:
                pass
        return found

    def take(self, line, found):
        try:
            report = json.loads(line.partition(STALELINE_MARK)[2])
            if report["report"] != "module" or report["name"] not in STALELINE_MODULES:
                return
            sections = found[report["name"]] = {}
            for name, address in report["sections"]:
                self.keep(sections, name, address)
        except (KeyError, TypeError, ValueError):
            pass

StalelineModules()
end
