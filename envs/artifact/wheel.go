package artifact

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
)

// wheel judges by a wheel's tags and its Requires-Python whether the target's pip would
// take it. What else it requires is fetched by pip, or isn't: it isn't looked at.
func (c *check) wheel(p *Package) {
	pythons := c.interpreters("python")
	if len(pythons) == 0 {
		if c.unknownInterpreters() {
			c.unproven("interpreter", "%s is for Python, and which interpreters %s has isn't known", c.name, c.Name)
			return
		}
		c.fails("interpreter", "%s is for Python, and %s has none", c.name, c.Name)
		return
	}
	takes := func(i system.Interpreter) bool {
		return slices.ContainsFunc(p.Tags, func(tag string) bool { return c.takesWheel(i, tag) })
	}
	if len(p.Tags) > 0 && !slices.ContainsFunc(pythons, takes) {
		r := c.fails("module-abi", "%s is tagged %s, which Python %s of %s doesn't take", c.name, some(p.Tags),
			and(versionsOf(pythons)), c.Name)
		r.Version, r.Found = p.Tags[0], pythons[0].Path
		r.way("build the wheel in %s", c.Name)
	}
	for _, clause := range strings.Split(p.Python, ",") {
		ok := slices.ContainsFunc(pythons, func(i system.Interpreter) bool { return pythonClause(i.Version, clause) })
		if !ok {
			c.fails("interpreter", "%s requires Python %s, and %s has %s", c.name, strings.TrimSpace(p.Python), c.Name,
				and(versionsOf(pythons)))
			break
		}
	}
	if len(p.Depends) > 0 {
		c.remark("depends", "%s requires %s: whether they are there isn't looked at", c.name, some(p.Depends))
	}
}

var manylinux = regexp.MustCompile(`^(manylinux|musllinux)_([0-9]+)_([0-9]+)_(.+)$`)

var oldManylinux = map[string]string{"manylinux1": "manylinux_2_5", "manylinux2010": "manylinux_2_12",
	"manylinux2014": "manylinux_2_17"}

// takesWheel tells whether a Python's pip takes a tag: cp311-cp311-manylinux_2_17_x86_64.
func (c *check) takesWheel(i system.Interpreter, tag string) bool {
	parts := strings.SplitN(tag, "-", 3)
	return len(parts) == 3 && takesPython(i.Version, parts[0], parts[1]) && c.takesPlatform(parts[2])
}

func takesPython(version, python, abi string) bool {
	major, minor, _ := strings.Cut(version, ".")
	minor, _, _ = strings.Cut(minor, ".")
	switch {
	case python == "py"+major || python == "cp"+major:
		return abi == "none" || abi == "abi3"
	case abi == "abi3" || abi == "none" && strings.HasPrefix(python, "py"+major):
		wanted, err := strconv.Atoi(python[min(len(python), 2+len(major)):])
		have, err2 := strconv.Atoi(minor)
		return err == nil && err2 == nil && strings.HasPrefix(python[min(len(python), 2):], major) && wanted <= have
	}
	return python == "cp"+major+minor && (abi == python || abi == "none")
}

// takesPlatform compares a platform tag with the target's machine and C library.
func (c *check) takesPlatform(platform string) bool {
	if platform == "any" {
		return true
	}
	for old, now := range oldManylinux {
		if rest, ok := strings.CutPrefix(platform, old+"_"); ok {
			platform = now + "_" + rest
		}
	}
	if machine, ok := strings.CutPrefix(platform, "linux_"); ok {
		return sameMachine(machine, c.Host.Architecture)
	}
	m := manylinux.FindStringSubmatch(platform)
	if m == nil || !sameMachine(m[4], c.Host.Architecture) {
		return false
	}
	family := system.GLibC
	if m[1] == "musllinux" {
		family = system.Musl
	}
	for _, l := range c.System.Loaders() {
		if l.Family == family && (l.Version == "" || compareNumbers(l.Version, m[2]+"."+m[3]) >= 0) {
			return true
		}
	}
	return false
}

// pythonClause compares a version with one clause of Requires-Python: ">=3.8", "!=3.9.*".
func pythonClause(have, clause string) bool {
	clause = strings.TrimSpace(clause)
	end := strings.IndexFunc(clause, func(r rune) bool { return !strings.ContainsRune("<>=!~", r) })
	if end <= 0 {
		return true
	}
	op, want := clause[:end], strings.TrimSpace(clause[end:])
	if strings.Count(have, ".") < strings.Count(strings.TrimSuffix(want, ".*"), ".") {
		// Only 3.11 is known of 3.11.2: enough, but for the patch.
		want = minorOf(want)
		if op == "!=" || op == "<" || op == ">" {
			return true
		}
	}
	order := compareNumbers(have, want)
	stem := strings.TrimSuffix(want, ".*")
	switch op {
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	case "==":
		return order == 0 || stem != want && (have == stem || strings.HasPrefix(have, stem+"."))
	case "!=":
		return order != 0 && (stem == want || have != stem && !strings.HasPrefix(have, stem+"."))
	case "~=":
		major, _, _ := strings.Cut(want, ".")
		return order >= 0 && strings.HasPrefix(have, major+".")
	}
	return true
}
