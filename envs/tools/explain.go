package tools

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/go-air/gini/z"
)

// UnsolvableError says that a wish can't be granted beside the base, and the others.
type UnsolvableError struct {
	Wish string
	// Chain are the constraints that exclude each other, none of them too much, from the
	// wish on: "libpq-dev 13.11 needs libpq5 (= 13.11)", "acme has libpq5 13.8, which stays".
	Chain []string
	// WaysOut are what would help, the nearest first.
	WaysOut []string
}

func (e *UnsolvableError) Error() string {
	return fmt.Sprintf("choosing tools for %s: %s", e.Wish, strings.Join(e.Chain, "; "))
}

// Hint names the ways out.
func (e *UnsolvableError) Hint() string { return strings.Join(e.WaysOut, "; or: ") }

// unsolvable finds out why the wishes can't be granted, all of which can't. The first that
// can't by itself is the one to name.
func (u *universe) unsolvable(ctx context.Context, needs []*need) error {
	var wishes []Wish
	for _, n := range needs {
		wishes = append(wishes, *n.wish)
	}
	for i := range wishes {
		e, err := u.explain(ctx, wishes[i:i+1])
		if e != nil || err != nil {
			return explained(e, err)
		}
	}
	e, err := u.explain(ctx, wishes)
	return explained(e, err)
}

func explained(e *UnsolvableError, err error) error {
	if err != nil {
		return fmt.Errorf("finding out why tools don't fit: %w", err)
	}
	return e
}

// explain tells why these wishes can't be granted together; nil where they can.
func (u *universe) explain(ctx context.Context, wishes []Wish) (*UnsolvableError, error) {
	needs, err := u.wishes(wishes)
	if err != nil {
		return nil, err
	}
	p := newProblem(u, needs, true)
	if err := p.encode(ctx); err != nil {
		return nil, err
	}
	var guards []z.Lit
	for _, c := range p.constraints {
		guards = append(guards, c.guard)
	}
	ok, core, err := p.solve(ctx, p.grants, guards)
	if ok || err != nil {
		return nil, err
	}
	if core, err = p.minimize(ctx, core); err != nil {
		return nil, err
	}
	s := &story{problem: p, told: map[*need]bool{}, said: map[string]bool{}}
	for _, l := range core {
		if c := p.byGuard[l]; c != nil {
			s.in = append(s.in, c)
		}
	}
	slices.SortFunc(s.in, func(a, b *constraint) int { return int(a.guard) - int(b.guard) })
	e := &UnsolvableError{Wish: s.tell(), Chain: s.lines}
	e.WaysOut, err = s.waysOut(ctx, wishes)
	return e, err
}

// minimize leaves out of a core what isn't needed for the contradiction.
func (p *problem) minimize(ctx context.Context, core []z.Lit) (needed []z.Lit, err error) {
	slices.Sort(core)
	for len(core) > 0 {
		one, rest := core[len(core)-1], core[:len(core)-1]
		ok, less, err := p.solve(ctx, needed, rest)
		switch {
		case err != nil:
			return nil, err
		case ok:
			needed, core = append(needed, one), rest
		default:
			core = slices.DeleteFunc(rest, func(l z.Lit) bool { return !slices.Contains(less, l) })
		}
	}
	return needed, nil
}

// A story puts constraints that exclude each other into words, from the wish on.
type story struct {
	*problem
	in    []*constraint
	told  map[*need]bool
	said  map[string]bool
	lines []string
	left  int // lines that were too many
}

const maxLines = 12

func (s *story) say(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if s.said[line] {
		return
	}
	s.said[line] = true
	if len(s.lines) == maxLines {
		s.left++
		return
	}
	s.lines = append(s.lines, line)
}

// tell tells it, and says which wish it is about.
func (s *story) tell() (wish string) {
	var wishes []*need
	for _, c := range s.in {
		if c.need != nil && c.need.wish != nil {
			wishes = append(wishes, c.need)
		}
	}
	for i, n := range wishes {
		if wish = n.wish.Text; i > 0 {
			s.say("%s is asked for, too", wishes[i-1].wish.Text)
		}
		s.need(n)
	}
	if s.left > 0 {
		s.lines = append(s.lines, fmt.Sprintf("and %d more of this kind", s.left))
	}
	return wish
}

// need tells why none of the options of a need will do. Of a package's versions two are
// enough.
func (s *story) need(n *need) {
	if s.told[n] {
		return
	}
	s.told[n] = true
	if n.owner != nil {
		s.say("%s needs %s", s.label(n.owner), spell(n.alts))
	}
	if len(n.options) == 0 {
		s.nothing(n)
	}
	versions := map[string]int{}
	for _, o := range n.options {
		if versions[s.short(o.pkg)]++; versions[s.short(o.pkg)] <= 2 {
			s.about(o.pkg)
		}
	}
	for _, o := range n.options {
		if more := versions[s.short(o.pkg)] - 2; more > 0 {
			versions[s.short(o.pkg)] = 0
			s.say("no other version of %s fits, either", s.short(o.pkg))
		}
	}
}

// about tells what is in the way of a package.
func (s *story) about(q *pkg) {
	for _, c := range s.in {
		switch {
		case c.need != nil && c.need.owner == q:
			s.need(c.need)
		case c.block != nil && c.p == q:
			s.blocked(q, c.block)
		case c.block == nil && (c.p == q || c.q == q):
			s.apart(c)
		}
	}
}

func (s *story) blocked(q *pkg, b *block) {
	if b.text != "" {
		s.say("%s", b.text)
	} else if b.by.slot != q.slot {
		s.say("%s can't be beside the package for %s in %s", s.label(q), b.by.slot, s.baseName())
	}
	if b.by != nil {
		s.stays(b.by)
	}
}

func (s *story) stays(q *pkg) {
	if q.works {
		s.say("%s has %s, which stays", s.baseName(), s.label(q))
	} else {
		s.say("%s has %s, which is not fully installed and stays so", s.baseName(), s.label(q))
	}
}

func (s *story) apart(c *constraint) {
	if c.text != "" {
		s.say("%s", c.text)
	} else {
		s.say("%s and %s exclude each other", s.label(c.p), s.label(c.q))
	}
}

// slotOf is the architecture for which a need is.
func (s *story) slotOf(n *need) string {
	if n.owner != nil {
		return n.owner.slot
	}
	return s.native
}

// nothing tells of a need for which there are no packages.
func (s *story) nothing(n *need) {
	for _, r := range n.alts {
		here, there := false, []string(nil)
		for _, q := range s.real(r.name) {
			if q.inBase() {
				here = true
				s.stays(q)
			} else if s.suits(r, s.slotOf(n), q) {
				there = append(there, s.label(q))
			}
		}
		switch {
		case len(there) > 3:
			s.say("of %s archives have only %s and %d others", r.name, strings.Join(there[:3], ", "), len(there)-3)
		case len(there) > 0:
			s.say("of %s archives have only %s", r.name, strings.Join(there, ", "))
		case !here && (len(s.virtual(r.name)) == 0 || r.op != ""):
			s.say("no archive has %s", r)
		case !here:
			s.say("what provides %s doesn't do for it", r)
		}
	}
	if len(n.alts) == 0 {
		s.say("no archive has anything that grants it")
	}
}
