package runtime

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is a kind of processor: how its programs begin, and what it is called.
type machine struct {
	class  elf.Class
	data   elf.Data
	number elf.Machine
	qemu   string   // by QEMU, which runs its programs elsewhere
	names  []string // by Debian
	unames []string // by uname(2), where the programs run by themselves
}

var machines = []machine{
	{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_X86_64, "x86_64", []string{"amd64"}, []string{"x86_64"}},
	{elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_386, "i386", []string{"i386"}, []string{"x86_64", "i386", "i486", "i586", "i686"}},
	{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_AARCH64, "aarch64", []string{"arm64"}, []string{"aarch64"}},
	{elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_ARM, "arm", []string{"armhf", "armel"},
		[]string{"armv5tel", "armv6l", "armv7l", "armv8l", "aarch64"}}, // not every aarch64: the kernel judges
	{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_PPC64, "ppc64le", []string{"ppc64el"}, []string{"ppc64le"}},
	{elf.ELFCLASS64, elf.ELFDATA2MSB, elf.EM_S390, "s390x", []string{"s390x"}, []string{"s390x"}},
	{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_RISCV, "riscv64", []string{"riscv64"}, []string{"riscv64"}},
	{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_LOONGARCH, "loongarch64", []string{"loong64"}, []string{"loongarch64"}},
	{elf.ELFCLASS64, elf.ELFDATA2LSB, elf.EM_MIPS, "mips64el", []string{"mips64el"}, []string{"mips64"}},
	{elf.ELFCLASS32, elf.ELFDATA2LSB, elf.EM_MIPS, "mipsel", []string{"mipsel"}, []string{"mips", "mips64"}},
}

// binfmtDirs are where packages keep what is registered when a machine starts.
var binfmtDirs = []string{"/usr/lib/binfmt.d/", "/etc/binfmt.d/", "/usr/share/binfmts/"}

// CheckArchitecture reports why programs of an architecture, by Debian's name, don't
// run on this machine; nil where they do, and where that shows only when one is tried.
func CheckArchitecture(name string) error {
	for _, m := range machines {
		for _, n := range m.names {
			if n == name {
				if bad := m.runs(nil); bad != nil {
					bad.Op = "running programs for " + name
					return bad
				}
			}
		}
	}
	return nil
}

// foreign reports why the machine doesn't run the program that begins with head.
func (in *inside) foreign(head []byte) *Error {
	if len(head) < 20 {
		return nil
	}
	for _, m := range machines {
		if begin := m.header(); bytes.Equal(head[:elf.EI_VERSION], begin[:elf.EI_VERSION]) && bytes.Equal(head[18:20], begin[18:20]) {
			return m.runs(in)
		}
	}
	return nil
}

// header is how a program for m begins (elf(5)), all that handlers look at.
func (m machine) header() []byte {
	b := make([]byte, 64)
	copy(b, elf.ELFMAG)
	b[elf.EI_CLASS], b[elf.EI_DATA], b[elf.EI_VERSION] = byte(m.class), byte(m.data), byte(elf.EV_CURRENT)
	var order binary.ByteOrder = binary.LittleEndian
	if m.data == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	order.PutUint16(b[16:], uint16(elf.ET_EXEC))
	order.PutUint16(b[18:], uint16(m.number))
	order.PutUint32(b[20:], uint32(elf.EV_CURRENT))
	return b
}

// runs reports why programs for m don't run on this machine. in is the root that they
// would run in, where it is there already.
func (m machine) runs(in *inside) *Error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil
	}
	here := unix.ByteSliceToString(u.Machine[:])
	for _, name := range m.unames {
		if name == here {
			return m.compatible(here, in)
		}
	}
	return m.emulated(here, in)
}

// compatible is about programs that this machine's own kernel runs.
func (m machine) compatible(here string, in *inside) *Error {
	if m.number != elf.EM_386 || here != "x86_64" {
		return nil
	}
	if _, err := os.Stat("/proc/sys/abi"); err != nil {
		return nil // nothing can be known
	}
	if _, err := os.Stat("/proc/sys/abi/vsyscall32"); err == nil {
		return nil
	}
	bad := m.emulated(here, in)
	if bad != nil {
		bad.Err = errors.New("this machine's kernel runs no 32-bit programs")
		bad.Remedy = "boot it with ia32_emulation=1"
	}
	return bad
}

// emulated is about programs for which an interpreter has to be registered.
func (m machine) emulated(here string, in *inside) *Error {
	if _, err := os.Stat(filepath.Join(handlers, "status")); err != nil {
		if tried(m.header()) != unix.ENOEXEC {
			return nil
		}
		return m.missing(here)
	}
	h := findHandler(m.header())
	switch {
	case h == nil:
		return m.missing(here)
	case h.fixed || in == nil: // the kernel has it open already
		return nil
	}
	if bad := in.needs("interpreter", h.interpreter); bad == nil {
		return nil
	}
	return &Error{Code: CodeNotExecutable,
		Err: fmt.Errorf("this machine (%s) runs programs for %s with %s, which isn't inside: binfmt_misc has %s without the flag F",
			here, m.qemu, h.interpreter, h.name),
		Remedy: "install a static QEMU, which is registered with F: " + installQEMU}
}

const installQEMU = "sudo apt-get install qemu-user-static (Fedora: sudo dnf install qemu-user-static)"

// missing says how to set up what runs the programs.
func (m machine) missing(here string) *Error {
	bad := &Error{Code: CodeNotExecutable, Remedy: "install it: " + installQEMU,
		Err: fmt.Errorf("this machine is %s, and nothing is registered that runs programs for %s", here, m.qemu)}
	for _, dir := range binfmtDirs {
		for _, name := range []string{"qemu-" + m.qemu + ".conf", "qemu-" + m.qemu + "-static.conf", "qemu-" + m.qemu} {
			if _, err := os.Stat(dir + name); err == nil {
				bad.Remedy = "qemu-" + m.qemu + " is installed: register it by sudo systemctl restart systemd-binfmt" +
					" (without systemd: sudo mount -t binfmt_misc none " + handlers + " && sudo /usr/lib/systemd/systemd-binfmt)"
				return bad
			}
		}
	}
	return bad
}

// handler is what binfmt_misc tells of one of its entries.
type handler struct {
	name, interpreter string
	fixed             bool // flag F: opened when it was registered, and so there in every root
	offset            int
	magic, mask       []byte
}

// findHandler finds the one that runs what begins with head.
func findHandler(head []byte) *handler {
	if text, err := os.ReadFile(filepath.Join(handlers, "status")); err != nil || !bytes.HasPrefix(text, []byte("enabled")) {
		return nil
	}
	entries, _ := os.ReadDir(handlers)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(handlers, e.Name()))
		if err != nil {
			continue
		}
		if h, ok := parseHandler(e.Name(), string(text)); ok && h.matches(head) {
			return h
		}
	}
	return nil
}

// parseHandler reads an enabled entry that goes by how files begin
// (Documentation/admin-guide/binfmt-misc.rst).
func parseHandler(name, text string) (*handler, bool) {
	h := &handler{name: name}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines {
		key, value, _ := strings.Cut(line, " ")
		var err error
		switch key {
		case "interpreter":
			h.interpreter = value
		case "flags:":
			h.fixed = strings.Contains(value, "F")
		case "offset":
			h.offset, err = strconv.Atoi(value)
		case "magic":
			h.magic, err = hex.DecodeString(value)
		case "mask":
			h.mask, err = hex.DecodeString(value)
		}
		if err != nil {
			return nil, false
		}
	}
	return h, lines[0] == "enabled" && len(h.magic) > 0 && h.offset >= 0
}

func (h *handler) matches(head []byte) bool {
	if h.offset > len(head) || len(head)-h.offset < len(h.magic) {
		return false
	}
	for i, want := range h.magic {
		mask := byte(0xff)
		if i < len(h.mask) {
			mask = h.mask[i]
		}
		if (head[h.offset+i]^want)&mask != 0 {
			return false
		}
	}
	return true
}

// tried executes a file of no more than a header: the kernel says ENOEXEC where
// nothing is registered for it. What is registered starts, and ends by itself.
func tried(head []byte) error {
	fd, err := unix.MemfdCreate("stead-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "probe")
	defer f.Close()
	if _, err := f.Write(head); err != nil {
		return err
	}
	err = exec.Command(fmt.Sprintf("/proc/self/fd/%d", fd)).Run()
	if errors.Is(err, unix.ENOEXEC) {
		return unix.ENOEXEC
	}
	return nil
}
