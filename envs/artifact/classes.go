package artifact

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
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
	if want == 0 && !slices.ContainsFunc(f.Members, func(m File) bool { return m.Object != nil }) {
		return nil
	}
	c := v.check(f, Other)
	c.nativeMembers()
	if want > 0 {
		c.java(want, of)
	}
	return c
}

// nativeMembers judges the libraries in a jar that are for the target's machine. Java
// unpacks and loads one of them, or none: what is wrong with one is no failure yet.
func (c *check) nativeMembers() {
	for i := range c.file.Members {
		m := &c.file.Members[i]
		if m.Object == nil || !m.Object.Dynamic || !c.runs(m.Object) {
			continue
		}
		other := c.checkObject(m)
		for _, r := range other.answer.Reasons {
			if r.Verdict != Starts && r.Kind != string(loader.MissingSymbol) {
				r.Verdict, r.Text = Unproven, "in "+c.name+": "+r.Text
				c.answer.Reasons = append(c.answer.Reasons, r)
			}
		}
	}
}

// runs tells whether a loader of the target is for an object's machine.
func (c *check) runs(o *object.Object) bool {
	return slices.ContainsFunc(c.System.Loaders(), func(l *system.Loader) bool {
		return l.Machine == o.Machine && l.Class == o.Class
	})
}

// java judges which Java class files are for.
func (c *check) java(want int, of string) {
	all := c.interpreters("java")
	if len(all) == 0 {
		if c.unknownInterpreters() {
			c.unproven("interpreter", "%s is for Java %d, and whether %s has that isn't known", c.name, want, c.Name)
		} else {
			c.fails("interpreter", "%s is for Java, and %s has none", c.name, c.Name)
		}
		return
	}
	if slices.ContainsFunc(all, func(i system.Interpreter) bool { return javaRelease(i.Version) >= want }) {
		return
	}
	r := c.fails("module-abi", "%s is for Java %d (%s), and %s has %s", c.name, want, of, c.Name, and(versionsOf(all)))
	r.Version, r.Found = strconv.Itoa(want), all[0].Path
	r.way("build it with --release %d", javaRelease(all[0].Version))
}

// javaRelease is 8 of "1.8.0_382", 17 of "17.0.8".
func javaRelease(version string) int {
	first, rest := leadingNumber(version)
	if first == 1 {
		first, _ = leadingNumber(rest)
	}
	return int(first)
}
