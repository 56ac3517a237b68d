package artifact

import (
	"regexp"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
)

// pythonModule are paths of extension modules: by their tag, or by the folder that they
// lie in. perlModule are those of Perl's.
var (
	pythonTag    = regexp.MustCompile(`\.(cpython-3[0-9]+[a-z]*(?:-[a-z0-9_-]+)?|abi3|pypy[a-z0-9_-]+)\.so$`)
	pythonDir    = regexp.MustCompile(`/(?:lib|lib64|share)/python(3(?:\.[0-9]+)?)/.*\.so$`)
	pythonModule = regexp.MustCompile(pythonTag.String() + `|/python3(?:\.[0-9]+)?/(?:lib-dynload|.*(?:dist|site)-packages)/.*\.so$`)
	perlModule   = regexp.MustCompile(`/perl(?:5|-base)?/.*auto/.*\.so$`)
	perlDir      = regexp.MustCompile(`/perl(?:5|-base)?/([0-9]+\.[0-9]+)(?:\.[0-9]+)?/`)
)

// pythonModule judges whether a Python of the target takes an extension module: its tag
// has to be one of its own.
func (c *check) pythonModule() bool {
	tag, version := "", ""
	if found := pythonTag.FindStringSubmatch(c.file.Path); found != nil {
		tag = found[1]
	} else if stem, _, _ := strings.Cut(c.name, "."); len(c.file.Object.Named("PyInit_"+stem)) == 0 {
		c.answer.Kind = Library // a module's library, in the folder beside it
		return true
	}
	if found := pythonDir.FindStringSubmatch(c.file.Path); found != nil && strings.Contains(found[1], ".") {
		version = found[1]
	}
	if c.ownInterpreter("python") {
		return true
	}
	all := c.interpreters("python")
	if len(all) == 0 {
		c.noInterpreter("Python")
		return c.unknownInterpreters()
	}
	for _, i := range all {
		if takesTag(i, tag) && (version == "" || i.Version == version || tag == "abi3") {
			c.into = append(c.into, i.Path)
		}
	}
	c.whole, c.now = true, true // Python's own dlopen flags
	if len(c.into) > 0 {
		return true
	}
	want := "Python " + version
	if tag != "" {
		want = tag
	}
	if strings.HasPrefix(tag, "pypy") {
		c.unproven("module-abi", "%s is for PyPy (%s), which isn't judged", c.name, tag)
		return false
	}
	r := c.fails("module-abi", "%s is for %s, and %s has Python %s: it isn't found by that", c.name, want,
		c.Name, and(versionsOf(all)))
	r.Version, r.Found, r.When = tag, all[0].Path, atLoad
	r.buildIn(c.Target)
	r.way("build it against the limited API (abi3), or ship a Python along")
	return false
}

// takesTag tells whether a Python imports a module of a tag.
func takesTag(i system.Interpreter, tag string) bool {
	if tag == "" || slices.Contains(i.ABI, tag) {
		return true
	}
	if tag == "abi3" {
		return strings.HasPrefix(i.Version, "3")
	}
	if len(i.ABI) > 0 && strings.Count(tag, "-") > 1 {
		return false
	}
	major, minor, _ := strings.Cut(i.Version, ".")
	minor, _, _ = strings.Cut(minor, ".")
	plain := "cpython-" + major + minor
	return tag == plain || len(i.ABI) == 0 && strings.HasPrefix(tag, plain+"-")
}

// perlModule judges whether the target's Perl looks where a module lies. Modules of
// another Perl's ABI are refused when they are loaded.
func (c *check) perlModule() bool {
	if c.ownInterpreter("perl") {
		return true
	}
	all := c.interpreters("perl")
	if len(all) == 0 {
		c.noInterpreter("Perl")
		return c.unknownInterpreters()
	}
	c.whole = true
	version := ""
	if found := perlDir.FindStringSubmatch(c.file.Path); found != nil {
		version = found[1]
	}
	for _, i := range all {
		if version == "" || i.Version == version || strings.HasPrefix(i.Version, version+".") {
			c.into = append(c.into, i.Path)
		}
	}
	if len(c.into) > 0 {
		return true
	}
	r := c.fails("module-abi", "%s is for Perl %s, and %s has %s: it isn't found by that", c.name, version,
		c.Name, and(versionsOf(all)))
	r.Version, r.Found, r.When = version, all[0].Path, atLoad
	r.buildIn(c.Target)
	return false
}

// ownInterpreter tells whether the artifact brings an interpreter of its own for a module,
// which is judged in that then.
func (c *check) ownInterpreter(language string) bool {
	if c.over != nil {
		c.into = append(c.into, c.over.programs[language]...)
	}
	return len(c.into) > 0
}

// noInterpreter says that nobody on the target loads a module.
func (c *check) noInterpreter(language string) {
	if c.unknownInterpreters() {
		c.unproven("module-abi", "%s is a module of %s, and which interpreters %s has isn't known", c.name,
			language, c.Name)
		return
	}
	r := c.fails("module-abi", "%s is a module of %s, and %s has none", c.name, language, c.Name)
	r.When = atLoad
}

// unknownInterpreters tells that the target's facts name none at all.
func (t *Target) unknownInterpreters() bool { return len(t.Facts.Interpreters) == 0 }

func versionsOf(all []system.Interpreter) []string {
	var versions []string
	for _, i := range all {
		if !slices.Contains(versions, i.Version) {
			versions = append(versions, i.Version)
		}
	}
	return versions
}
