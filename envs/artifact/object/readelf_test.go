package object_test

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// TestReadelf holds what is read of this machine's own objects against what binutils, by
// the sections, say of them.
func TestReadelf(t *testing.T) {
	t.Parallel()
	paths := slices.DeleteFunc(libraries(t), func(path string) bool {
		_, err := read(path)
		return err != nil
	})
	for i := 0; i < len(paths); i += max(1, len(paths)/40) {
		path := paths[i]
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, d := range differences(t, path) {
				t.Error(d)
			}
		})
	}
}

// differences between an object and what readelf says of it.
func differences(t *testing.T, path string) (all []string) {
	t.Helper()
	o := mustRead(t, path)
	out, err := exec.Command("readelf", "-W", "-d", "-V", "-r", "--dyn-syms", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	says := understand(t, out)
	compare := func(what string, got, want []string) {
		slices.Sort(got)
		slices.Sort(want)
		got, want = slices.Compact(got), slices.Compact(want)
		for _, g := range got {
			if _, ok := slices.BinarySearch(want, g); !ok {
				all = append(all, fmt.Sprintf("%s: %s isn't there for readelf", what, g))
			}
		}
		for _, w := range want {
			if _, ok := slices.BinarySearch(got, w); !ok {
				all = append(all, fmt.Sprintf("%s: %s is there for readelf alone", what, w))
			}
		}
	}
	compare("dynamic", dynamic(o), says.dynamic)
	var exports, imports, copies, versions []string
	for _, e := range o.Exports {
		exports = append(exports, fmt.Sprint(e.Name, " ", e.Version, " ", e.Hidden, e.Weak, e.Type, e.Size))
	}
	for _, s := range o.Imports {
		imports = append(imports, fmt.Sprint(s.Name, " ", s.Version, " ", s.Weak, s.Lazy))
	}
	for _, c := range o.Copies {
		copies = append(copies, fmt.Sprint(c.Name, " ", c.Version, " ", c.Size))
	}
	for _, d := range o.Definitions {
		versions = append(versions, fmt.Sprint("define ", d.Index, " ", d.Name, " ", d.Base, d.Weak))
	}
	for _, r := range o.Requirements {
		for _, v := range r.Versions {
			versions = append(versions, fmt.Sprint("need ", r.File, " ", v.Name, " ", v.Weak))
		}
	}
	compare("exports", exports, says.exports)
	compare("imports", imports, says.imports)
	compare("copies", copies, says.copies)
	compare("versions", versions, says.versions)
	return all
}

func dynamic(o *object.Object) (all []string) {
	for _, n := range o.Needed {
		all = append(all, "NEEDED "+n)
	}
	if o.Soname != "" {
		all = append(all, "SONAME "+o.Soname)
	}
	if o.RPath != nil {
		all = append(all, "RPATH "+strings.Join(o.RPath, ":"))
	}
	if o.RunPath != nil {
		all = append(all, "RUNPATH "+strings.Join(o.RunPath, ":"))
	}
	for word, is := range map[string]bool{"NOW": o.BindNow, "NODEFLIB": o.NoDefaultLibs, "PIE": o.PIE, "RELR": o.RELR, "VERSYM": o.Versioned} {
		if is {
			all = append(all, word)
		}
	}
	return all
}

// said is what readelf says, as far as an object has it.
type said struct {
	dynamic, exports, imports, copies, versions []string
}

var (
	dynamicLine = regexp.MustCompile(`^ 0x[0-9a-f]+ \(([A-Z_0-9]+)\) +(.*)$`)
	relocLine   = regexp.MustCompile(`^[0-9a-f]{8,16}  ([0-9a-f]{8,16}) (R_[A-Z0-9_]+)`)
	symbolLine  = regexp.MustCompile(`^ +(\d+): ([0-9a-f]+) +(0x[0-9a-f]+|\d+) (\S+) +(<OS specific>: 10|\S+) +(\S+) +(?:\[.*\] +)?(\S+)(?: (\S+))?( \(\d+\))?`)
	defineLine  = regexp.MustCompile(`Rev: 1  Flags: (.*?) +Index: (\d+)  Cnt: \d+  Name: (.*)$`)
	fileLine    = regexp.MustCompile(`Version: 1  File: (.*?)  Cnt: \d+`)
	needLine    = regexp.MustCompile(`Name: (.*?)  Flags: (.*?)  Version: \d+`)
	bracketed   = regexp.MustCompile(`\[(.*)\]`)
	jumpSlot    = regexp.MustCompile(`_JU?MP_SLOT?$`)
)

func understand(t *testing.T, out []byte) said {
	var s said
	marks := map[int]string{} // by the number of the symbol: now, lazy, copy
	names := map[string]bool{}
	var file string
	var lines [][]string
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); {
		line := scan.Text()
		if m := dynamicLine.FindStringSubmatch(line); m != nil {
			s.entry(m[1], m[2])
		} else if m := relocLine.FindStringSubmatch(line); m != nil {
			info, _ := strconv.ParseUint(m[1], 16, 64)
			symbol := int(info >> 32)
			if len(m[1]) == 8 {
				symbol = int(info >> 8)
			}
			switch {
			case strings.HasSuffix(m[2], "_COPY"):
				marks[symbol] += "copy"
			case !jumpSlot.MatchString(m[2]):
				marks[symbol] += "now"
			default:
				marks[symbol] += "lazy"
			}
		} else if m := symbolLine.FindStringSubmatch(line); m != nil {
			lines = append(lines, m)
		} else if m := defineLine.FindStringSubmatch(line); m != nil {
			names[m[3]] = true
			s.versions = append(s.versions, fmt.Sprint("define ", m[2], " ", m[3], " ", strings.Contains(m[1], "BASE"), strings.Contains(m[1], "WEAK")))
		} else if m := fileLine.FindStringSubmatch(line); m != nil {
			file = m[1]
		} else if m := needLine.FindStringSubmatch(line); m != nil {
			s.versions = append(s.versions, fmt.Sprint("need ", file, " ", m[1], " ", strings.Contains(m[2], "WEAK")))
		}
	}
	for _, m := range lines {
		s.symbol(t, m, marks, names)
	}
	return s
}

// entry is one of the dynamic section.
func (s *said) entry(tag, value string) {
	switch tag {
	case "NEEDED", "SONAME", "RPATH", "RUNPATH":
		s.dynamic = append(s.dynamic, tag+" "+bracketed.FindStringSubmatch(value)[1])
	case "BIND_NOW":
		s.dynamic = append(s.dynamic, "NOW")
	case "RELR", "VERSYM":
		s.dynamic = append(s.dynamic, tag)
	case "FLAGS", "FLAGS_1":
		for _, word := range strings.Fields(value) {
			switch word {
			case "BIND_NOW", "NOW":
				s.dynamic = append(s.dynamic, "NOW")
			case "NODEFLIB", "PIE":
				s.dynamic = append(s.dynamic, word)
			}
		}
	}
}

// symbol is a line of the symbols' table.
func (s *said) symbol(t *testing.T, m []string, marks map[int]string, versions map[string]bool) {
	number, _ := strconv.Atoi(m[1])
	value, _ := strconv.ParseUint(m[2], 16, 64)
	size, err := strconv.ParseUint(m[3], 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	bind, section := m[5], m[7]
	name, version, _ := strings.Cut(m[8], "@")
	hidden := version != "" && version[0] != '@' && m[9] == "" // that is the number of a needed version
	version = strings.TrimPrefix(version, "@")
	weak, mark := bind == "WEAK", marks[number]
	if bind != "GLOBAL" && bind != "WEAK" && bind != "UNIQUE" && bind != "<OS specific>: 10" {
		return
	}
	if strings.Contains(mark, "copy") {
		s.copies = append(s.copies, fmt.Sprint(name, " ", version, " ", size))
	}
	if section == "UND" {
		if mark != "" && m[6] != "HIDDEN" && m[6] != "INTERNAL" {
			s.imports = append(s.imports, fmt.Sprint(name, " ", version, " ", weak, !strings.Contains(mark, "now")))
		}
		return
	}
	types := map[string]elf.SymType{"NOTYPE": elf.STT_NOTYPE, "OBJECT": elf.STT_OBJECT, "FUNC": elf.STT_FUNC,
		"COMMON": elf.STT_COMMON, "TLS": elf.STT_TLS, "IFUNC": elf.STT_GNU_IFUNC}
	kind, ok := types[m[4]]
	if !ok || value == 0 && kind != elf.STT_TLS && (section != "ABS" || versions[name]) {
		return
	}
	if kind == elf.STT_FUNC || kind == elf.STT_NOTYPE || kind == elf.STT_GNU_IFUNC {
		size = 0
	}
	s.exports = append(s.exports, fmt.Sprint(name, " ", version, " ", hidden, weak, kind, size))
}
