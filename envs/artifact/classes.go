package artifact

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
)

// classVersion is the release of Java that a class file is for; 0 for no class file. Its
// major version counts from 45 for 1.1.
func classVersion(head []byte) int {
	if len(head) < 8 || binary.BigEndian.Uint32(head) != 0xcafebabe {
		return 0
	}
	// A Mach-O file of several machines begins in the same way: its count is below 45.
	if major := int(binary.BigEndian.Uint16(head[6:])); major >= 45 && major < 200 {
		return major - 44
	}
	return 0
}

// checkArchive judges class files, alone or as the members of a jar, by the latest Java
// that one of them is for. It is nil where there are none.
func (v *view) checkArchive(f *File) *check {
	want, of := classVersion(f.Head), f.Name
	for i := range f.Members {
		m := &f.Members[i]
		// META-INF/versions holds what only later releases load.
		if version := classVersion(m.Head); version > want && !strings.Contains(m.Name, "META-INF/versions/") {
			want, of = version, m.Name
		}
	}
	if want == 0 {
		return nil
	}
	c := v.check(f, Other)
	all := c.interpreters("java")
	if len(all) == 0 {
		if c.unknownInterpreters() {
			c.unproven("interpreter", "%s is for Java %d, and whether %s has that isn't known", c.name, want, c.Name)
		} else {
			c.fails("interpreter", "%s is for Java, and %s has none", c.name, c.Name)
		}
		return c
	}
	if slices.ContainsFunc(all, func(i system.Interpreter) bool { return javaRelease(i.Version) >= want }) {
		return c
	}
	r := c.fails("module-abi", "%s is for Java %d (%s), and %s has %s", c.name, want, of, c.Name, and(versionsOf(all)))
	r.Version, r.Found = strconv.Itoa(want), all[0].Path
	r.way("build it with --release %d", javaRelease(all[0].Version))
	return c
}

// javaRelease is 8 of "1.8.0_382", 17 of "17.0.8".
func javaRelease(version string) int {
	first, rest := leadingNumber(version)
	if first == 1 {
		first, _ = leadingNumber(rest)
	}
	return int(first)
}
