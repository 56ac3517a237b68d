package tools

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Random small universes, where all sets of packages can be tried: by rules that are
// written down here once more, with whole numbers as versions.

type plain struct {
	name, arch, multi string
	version           int
	works, base       bool
	needs             [][]said // Depends
	against           []said
	provides          []said
}

type said struct {
	name, arch, op string
	version        int
}

func (s said) String() string {
	out := s.name
	if s.arch != "" {
		out += ":" + s.arch
	}
	if s.op != "" {
		out += fmt.Sprintf(" (%s %d)", s.op, s.version)
	}
	return out
}

func (s said) means(v int) bool {
	return map[string]bool{"": true, "<<": v < s.version, "<=": v <= s.version, "=": v == s.version, ">=": v >= s.version, ">>": v > s.version}[s.op]
}

func native(arch string) string {
	if arch == "all" {
		return "amd64"
	}
	return arch
}

// named reports whether p has the name and the version that s says, or provides it.
func (p *plain) named(s said) bool {
	if p.name == s.name && s.means(p.version) {
		return true
	}
	for _, v := range p.provides {
		if v.name == s.name && (s.op == "" || v.op == "=" && s.means(v.version)) {
			return true
		}
	}
	return false
}

func (p *plain) satisfies(s said, arch string) bool {
	fits := false
	switch s.arch {
	case "":
		fits = p.multi == "foreign" || native(p.arch) == native(arch)
	case "any":
		fits = p.multi == "allowed"
	default:
		fits = native(p.arch) == s.arch
	}
	return fits && p.named(s)
}

func (p *plain) minds(q *plain) bool {
	for _, s := range p.against {
		if p.name != q.name && (s.arch == "" || s.arch == native(q.arch)) && q.named(s) {
			return true
		}
	}
	return false
}

// content reports whether some packages beside the base grant the wishes and fit.
func content(base, set []*plain, wishes [][]said) bool {
	all := append(append([]*plain{}, base...), set...)
	granted := func(alternatives []said, arch string) bool {
		for _, s := range alternatives {
			for _, q := range all {
				if (q.works || !q.base) && q.satisfies(s, arch) {
					return true
				}
			}
		}
		return false
	}
	for _, w := range wishes {
		if !granted(w, "amd64") {
			return false
		}
	}
	for _, p := range set {
		for _, n := range p.needs {
			if !granted(n, p.arch) {
				return false
			}
		}
		for _, q := range all {
			if p == q {
				continue
			}
			beside := p.multi == "same" && q.multi == "same" && p.version == q.version && native(p.arch) != native(q.arch)
			if p.name == q.name && !beside || p.minds(q) || q.minds(p) {
				return false
			}
		}
	}
	return true
}

// A small universe, in both spellings.
type small struct {
	base, offers []*plain
	wishes       [][]said
}

var (
	smallNames = []string{"a", "b", "c", "d", "e"}
	operators  = []string{"", "", "", "<<", "<=", "=", ">=", ">>"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func randomSaid(r *rand.Rand, names []string, arches []string) said {
	s := said{name: pick(r, names), arch: pick(r, arches), op: pick(r, operators)}
	if s.op != "" {
		s.version = 1 + r.IntN(3)
	}
	return s
}

func randomSmall(r *rand.Rand) *small {
	anyName := append([]string{"v", "w"}, smallNames...)
	make1 := func(inBase bool) *plain {
		p := &plain{name: pick(r, smallNames), version: 1 + r.IntN(3), base: inBase, works: !inBase || r.IntN(6) > 0,
			arch:  pick(r, []string{"amd64", "amd64", "amd64", "i386", "all"}),
			multi: pick(r, []string{"", "", "same", "foreign", "allowed"})}
		for range r.IntN(3) {
			var alternatives []said
			for range 1 + r.IntN(3) {
				alternatives = append(alternatives, randomSaid(r, anyName, []string{"", "", "", "", "any", "i386", "amd64"}))
			}
			p.needs = append(p.needs, alternatives)
		}
		for range max(0, r.IntN(4)-2) {
			p.against = append(p.against, randomSaid(r, anyName, []string{"", "", "i386"}))
		}
		for range max(0, r.IntN(4)-2) {
			v := said{name: pick(r, anyName)}
			if r.IntN(2) == 0 {
				v.op, v.version = "=", 1+r.IntN(3)
			}
			p.provides = append(p.provides, v)
		}
		return p
	}
	s := &small{}
	seen := map[string]bool{}
	for range r.IntN(4) {
		// A base is as dpkg lets it be: one version of a name here, for simplicity.
		if p := make1(true); !seen[p.name] {
			seen[p.name] = true
			s.base = append(s.base, p)
		}
	}
	there := map[string]bool{}
	for range 1 + r.IntN(10) {
		p := make1(false)
		if key := fmt.Sprint(p.name, p.version, native(p.arch)); !there[key] {
			there[key] = true
			s.offers = append(s.offers, p)
		}
	}
	for range 1 + r.IntN(3) {
		s.wishes = append(s.wishes, []said{{name: pick(r, anyName)}})
	}
	return s
}

func (p *plain) candidate() (c Candidate) {
	c.Name, c.Version, c.Architecture, c.MultiArch = p.name, strconv.Itoa(p.version), p.arch, p.multi
	comma := func(list []said) string {
		var parts []string
		for _, s := range list {
			parts = append(parts, s.String())
		}
		return strings.Join(parts, ", ")
	}
	var needs []string
	for _, alternatives := range p.needs {
		needs = append(needs, strings.ReplaceAll(comma(alternatives), ", ", " | "))
	}
	c.Depends, c.Breaks, c.Provides = strings.Join(needs, ", "), comma(p.against), comma(p.provides)
	return c
}

func (s *small) spell() (base Base, offers []Candidate, wishes []Wish) {
	base = Base{Architecture: "amd64", Foreign: []string{"i386"}}
	for _, p := range s.base {
		c := p.candidate()
		i := Installed{Name: c.Name, Version: c.Version, Architecture: c.Architecture, Relations: c.Relations}
		if !p.works {
			i.State = "half-installed"
		}
		base.Packages = append(base.Packages, i)
	}
	for _, p := range s.offers {
		offers = append(offers, p.candidate())
	}
	for _, w := range s.wishes {
		wishes = append(wishes, Wish{Text: w[0].name, AnyOf: []string{w[0].name}})
	}
	return base, offers, wishes
}

// solutions are all sets of offers that do, as bits.
func (s *small) solutions() (list []int) {
	for bits := range 1 << len(s.offers) {
		if content(s.base, s.some(bits), s.wishes) {
			list = append(list, bits)
		}
	}
	return list
}

func (s *small) some(bits int) (set []*plain) {
	for i, p := range s.offers {
		if bits>>i&1 == 1 {
			set = append(set, p)
		}
	}
	return set
}

func TestAgainstAllSets(t *testing.T) {
	solved, nothing, none, helped := 0, 0, 0, 0
	for seed := range uint64(4000) {
		s := randomSmall(rand.New(rand.NewPCG(seed, 5)))
		base, offers, wishes := s.spell()
		all := s.solutions()
		a, err := Solve(t.Context(), base, offers, wishes)
		var un *UnsolvableError
		if (err != nil) != errors.As(err, &un) || (err == nil) != (len(all) > 0) {
			t.Fatalf("seed %d: %v, %v, there are %d solutions\n%+v\n%+v\n%+v", seed, a, err, len(all), base, offers, wishes)
		}
		if err != nil {
			if none++; len(un.Chain) == 0 || un.Wish == "" {
				t.Fatalf("seed %d: the error says nothing: %+v", seed, un)
			}
			if s.helps(t, un, base, offers, wishes) {
				helped++
			}
			continue
		}
		bits := 0
		for _, c := range a.Packages {
			for i, o := range offers {
				if o.Name == c.Name && o.Version == c.Version && o.Architecture == c.Architecture {
					bits |= 1 << i
				}
			}
		}
		for _, other := range all {
			if other&^bits == 0 && other != bits {
				t.Fatalf("seed %d: %s is more than is needed\n%+v\n%+v\n%+v", seed, spelled(a), base, offers, wishes)
			}
		}
		if !content(s.base, s.some(bits), s.wishes) {
			t.Fatalf("seed %d: %s doesn't do\n%+v\n%+v\n%+v", seed, spelled(a), base, offers, wishes)
		}
		if solved++; bits == 0 {
			nothing++
		}
	}
	t.Logf("%d solved, %d of these by the base alone, %d not to be solved, %d of these with another base", solved, nothing, none, helped)
}

var another = regexp.MustCompile(`([a-e])(:i386)? (\d) instead of`)

// helps checks that the wish is granted on the base that the error says would do.
func (s *small) helps(t *testing.T, un *UnsolvableError, base Base, offers []Candidate, wishes []Wish) bool {
	t.Helper()
	moves := another.FindAllStringSubmatch(un.Hint(), -1)
	if len(moves) == 0 {
		return false
	}
	base.Packages = slices.Clone(base.Packages)
	for _, m := range moves {
		for i, p := range base.Packages {
			for _, o := range offers {
				if p.Name == m[1] && o.Name == m[1] && o.Version == m[3] && native(o.Architecture) == native(p.Architecture) {
					base.Packages[i] = Installed{Name: o.Name, Version: o.Version, Architecture: o.Architecture, Relations: o.Relations}
				}
			}
		}
	}
	wishes = slices.DeleteFunc(slices.Clone(wishes), func(w Wish) bool { return w.Text != un.Wish })
	if _, err := Solve(t.Context(), base, offers, wishes); err != nil {
		t.Fatalf("%s should help, and then it is %v\n%+v\n%+v\n%+v", un.Hint(), err, base, offers, wishes)
	}
	return true
}
