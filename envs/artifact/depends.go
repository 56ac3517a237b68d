package artifact

import (
	"cmp"
	"path"
	"regexp"
	"strings"

	deb "github.com/knqyf263/go-deb-version"
	rpm "github.com/knqyf263/go-rpm-version"

	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/system"
)

// judgePackage answers whether a package can be installed as the target is: what it
// depends on has to be there already.
func (v *view) judgePackage(p *Package) Answer {
	c := v.check(&File{Name: p.File, Path: p.File}, PackageFile)
	switch {
	case p.Package == nil:
		c.unproven("bad-file", "%s doesn't say what it depends on", c.name)
	case p.Format == content.Wheel:
		c.wheel(p)
	case len(c.Facts.Packages) == 0:
		c.unproven("depends", "what is installed on %s isn't known", c.Name)
	default:
		c.relations(p)
	}
	return *c.done()
}

// relation is one package that another asks for: "libc6 (>= 2.34)".
type relation struct {
	name, op, version string
	arch              string // the one that it has to be of: "libc6:i386"
}

var (
	debRelation = regexp.MustCompile(`^\s*([^\s:(\[<]+)(?::([^\s(\[<]+))?\s*(?:\(\s*(<<|<=|=|>=|>>|<|>)\s*([^\s)]+)\s*\))?`)
	rpmRelation = regexp.MustCompile(`^\s*(\S+)(?:\s+(<|<=|=|>=|>)\s+(\S+))?\s*$`)
)

func (c *check) relations(p *Package) {
	if !c.takesFormat(p) {
		return
	}
	for _, field := range p.Depends {
		if p.Format == content.RPM && strings.HasPrefix(field, "(") {
			c.unproven("depends", "%s depends on %s, which isn't followed", p.Package.Name, field)
			continue
		}
		if p.Format == content.RPM && rpmBuiltin(field) {
			continue
		}
		met := false
		alternatives := []string{field}
		if p.Format == content.Deb {
			alternatives = strings.Split(field, "|")
		}
		for _, a := range alternatives {
			met = met || c.met(p, parseRelation(p.Format, a))
		}
		if !met {
			c.unmet(p, field, alternatives)
		}
	}
	for _, field := range p.Excludes {
		r := parseRelation(p.Format, field)
		if there, ok := c.installed(p, r); ok && r.name != p.Package.Name {
			reason := c.fails("depends", "%s can't be installed beside %s %s of %s: it excludes %s", p.Package.Name,
				there.Name, there.Version, c.Name, strings.TrimSpace(field))
			reason.Library, reason.Package = r.name, there.Name+" "+there.Version
		}
	}
}

// takesFormat judges whether a package is for the target's packager and machine at all.
func (c *check) takesFormat(p *Package) bool {
	if a := p.Architecture; a != "" && a != "all" && a != "noarch" && c.Host.Architecture != "" && !sameMachine(a, c.Host.Architecture) {
		foreign := false
		for _, other := range c.Facts.Packages {
			foreign = foreign || other.Architecture == a
		}
		if !foreign {
			c.fails("depends", "%s is for %s, and %s is %s", c.name, a, c.Name, c.Host.Architecture)
			return false
		}
	}
	// The base-files of one and the filesystem package of the other are everywhere.
	if want := map[content.Format]string{content.Deb: "dpkg", content.RPM: "rpm"}[p.Format]; len(c.versions[want]) == 0 {
		c.unproven("depends", "%s has no %s: what %s depends on has other names there", c.Name, want, c.name)
		return false
	}
	return true
}

func sameMachine(a, b string) bool {
	if a == b {
		return true
	}
	for _, names := range architectures {
		first := -1
		for i, n := range names {
			if n != a && n != b {
				continue
			}
			if first >= 0 {
				return true
			}
			first = i
		}
	}
	return false
}

func parseRelation(format content.Format, s string) relation {
	form := debRelation
	if format == content.RPM {
		form = rpmRelation
	}
	m := form.FindStringSubmatch(s)
	switch {
	case m == nil:
		return relation{name: strings.TrimSpace(s)}
	case format == content.Deb && m[3] == "" && strings.Contains(s, "("):
		return relation{name: m[1], op: "?"} // which nothing satisfies
	}
	if format == content.RPM {
		return relation{name: m[1], op: m[2], version: m[3]}
	}
	r := relation{name: m[1], op: m[3], version: m[4]}
	if m[2] != "any" && m[2] != "native" {
		r.arch = m[2]
	}
	return r
}

// met tells whether the target, or another package of the set, satisfies a relation.
func (c *check) met(p *Package, r relation) bool {
	if _, ok := c.installed(p, r); ok {
		return true
	}
	if p.Format == content.RPM && path.IsAbs(r.name) {
		_, ok := c.sys.Find(r.name)
		return ok
	}
	for i := range c.set.Packages {
		other := &c.set.Packages[i]
		if other.Package != nil && other.Format == p.Format && (r.arch == "" || r.arch == other.Architecture) &&
			satisfies(p.Format, r, other.Package.Name, other.Version, other.Provides) {
			return true
		}
	}
	return false
}

// installed finds a package of the target that satisfies a relation of another.
func (t *Target) installed(of *Package, r relation) (system.Package, bool) {
	for _, p := range t.versions[r.name] {
		if t.beside(of, r, p) && satisfies(of.Format, r, p.Name, p.Version, nil) {
			return p, true
		}
	}
	for _, i := range t.providers[r.name] {
		if p := t.Facts.Packages[i]; t.beside(of, r, p) && satisfies(of.Format, r, "", "", p.Provides) {
			return p, true
		}
	}
	return system.Package{}, false
}

// beside tells whether a package counts for one of another architecture: programs and data
// do, libraries don't.
func (t *Target) beside(of *Package, r relation, p system.Package) bool {
	general := func(a string) bool { return a == "" || a == "all" || a == "noarch" }
	if r.arch != "" {
		return r.arch == p.Architecture || general(p.Architecture) && r.arch == t.Host.Architecture
	}
	mine := of.Architecture
	if general(mine) {
		mine = t.Host.Architecture
	}
	return general(mine) || general(p.Architecture) || sameMachine(mine, p.Architecture) || !strings.HasPrefix(p.Name, "lib")
}

func satisfies(format content.Format, r relation, name, version string, provides []string) bool {
	if name == r.name && (r.op == "" || holds(format, version, r.op, r.version)) {
		return true
	}
	for _, p := range provides {
		v := parseRelation(format, p)
		if v.name == r.name && (r.op == "" || v.version != "" && holds(format, v.version, r.op, r.version)) {
			return true
		}
	}
	return false
}

// holds compares two versions by a package format's rules.
func holds(format content.Format, have, op, want string) bool {
	order := 0
	if format == content.RPM {
		order = compareRPM(have, want)
	} else {
		a, err := deb.NewVersion(have)
		b, err2 := deb.NewVersion(want)
		if err != nil || err2 != nil {
			return false
		}
		order = a.Compare(b)
	}
	switch op {
	case "<<", "<":
		if op == "<" && format == content.Deb { // dpkg's old spelling
			return order <= 0
		}
		return order < 0
	case "<=":
		return order <= 0
	case "=":
		return order == 0
	case ">=":
		return order >= 0
	case ">>", ">":
		if op == ">" && format == content.Deb {
			return order >= 0
		}
		return order > 0
	}
	return false
}

// compareRPM compares versions as rpm does: a release that one of them lacks counts not.
func compareRPM(have, want string) int {
	a, b := rpm.NewVersion(have), rpm.NewVersion(want)
	if !strings.Contains(want, "-") || !strings.Contains(have, "-") {
		x, _, _ := strings.Cut(have, "-")
		y, _, _ := strings.Cut(want, "-")
		a, b = rpm.NewVersion(x), rpm.NewVersion(y)
	}
	return a.Compare(b)
}

// unmet says what a package lacks on the target.
func (c *check) unmet(p *Package, field string, alternatives []string) {
	first := parseRelation(p.Format, alternatives[0])
	for _, a := range alternatives {
		r := parseRelation(p.Format, a)
		for _, have := range c.versions[r.name] {
			if r.arch != "" && r.arch != have.Architecture {
				continue
			}
			reason := c.fails("depends", "%s depends on %s, and %s has %s %s", p.Package.Name,
				strings.TrimSpace(field), c.Name, have.Name, cmp.Or(have.Version, "without a version"))
			reason.Library, reason.Version, reason.Package = r.name, r.version, have.Name+" "+have.Version
			if c.Env != "" {
				reason.way("build it in %s, and let the packager find out what it depends on", c.Env)
			}
			return
		}
	}
	reason := c.fails("depends", "%s depends on %s, and %s has none installed", p.Package.Name,
		strings.TrimSpace(field), c.Name)
	reason.Library, reason.Version = first.name, first.version
	if first.arch != "" {
		first.name += ":" + first.arch
	}
	reason.way("install %s on %s, and take a snapshot of it again", first.name, c.Name)
}

// rpmSoname are the relations by which an .rpm asks for libraries and their versions.
var rpmSoname = regexp.MustCompile(`^([^\s()]+\.so[^\s()]*)\(([^()]*)\)(?:\(64bit\))?$`)

// rpmBuiltin tells relations that need no package: rpm's own, and those for libraries,
// which the verdicts on the files look at closer.
func rpmBuiltin(field string) bool {
	return strings.HasPrefix(field, "rpmlib(") || strings.HasPrefix(field, "config(") ||
		strings.HasPrefix(field, "rtld(") || rpmSoname.MatchString(field)
}
