package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-air/gini/z"
)

// Solve chooses packages that grant all wishes and that the base has place for as it is.
// What it chooses depends on what there is, not on the order in which that is given: what
// the base has, then the first alternative, a real package before one that provides the
// name, the newest version, as little as possible. What is recommended and doesn't fit is
// left out; where what was asked for doesn't, the error is an *UnsolvableError.
func Solve(ctx context.Context, base Base, candidates []Candidate, wishes []Wish) (*Answer, error) {
	answer, err := solve(ctx, base, candidates, wishes)
	asked := slices.DeleteFunc(slices.Clone(wishes), func(w Wish) bool { return w.By != "" })
	if !errors.As(err, new(*UnsolvableError)) || len(asked) == len(wishes) {
		return answer, err
	}
	if answer, err = solve(ctx, base, candidates, asked); err != nil {
		return nil, err
	}
	for _, w := range wishes {
		if w.By == "" {
			continue
		}
		with, err := solve(ctx, base, candidates, append(asked, w))
		if errors.As(err, new(*UnsolvableError)) {
			continue
		}
		if err != nil {
			return nil, err
		}
		answer, asked = with, append(asked, w)
	}
	return answer, nil
}

func solve(ctx context.Context, base Base, candidates []Candidate, wishes []Wish) (*Answer, error) {
	u, err := newUniverse(&base, candidates)
	if err != nil {
		return nil, err
	}
	needs, err := u.wishes(wishes)
	if err != nil {
		return nil, err
	}
	p := newProblem(u, needs, false)
	if err := p.encode(ctx); err != nil {
		return nil, fmt.Errorf("choosing tools: %w", err)
	}
	ok, _, err := p.solve(ctx, p.grants)
	if err != nil {
		return nil, fmt.Errorf("choosing tools: %w", err)
	}
	if !ok {
		return nil, u.unsolvable(ctx, needs)
	}
	chosen, err := p.choose(ctx)
	if err != nil {
		return nil, fmt.Errorf("choosing tools: %w", err)
	}
	return p.answer(chosen), nil
}

// wishes reads the wishes, sorted, each once.
func (u *universe) wishes(wishes []Wish) (needs []*need, err error) {
	wishes = slices.Clone(wishes)
	slices.SortStableFunc(wishes, func(a, b Wish) int {
		return cmp.Or(strings.Compare(a.Text, b.Text), falseFirst(!a.There, !b.There), slices.Compare(a.AnyOf, b.AnyOf))
	})
	wishes = slices.CompactFunc(wishes, func(a, b Wish) bool {
		return a.Text == b.Text && a.There == b.There && slices.Equal(a.AnyOf, b.AnyOf)
	})
	for i := range wishes {
		n := &need{wish: &wishes[i]}
		for _, text := range wishes[i].AnyOf {
			r, err := parseWish(text)
			if err != nil {
				return nil, fmt.Errorf("reading the wish for %s: %w", wishes[i].Text, err)
			}
			n.alts = append(n.alts, r)
		}
		if !n.wish.There {
			u.resolve(n, u.native)
		}
		needs = append(needs, n)
	}
	return needs, nil
}

// parseWish reads "name[:arch][=version]".
func parseWish(s string) (r relation, err error) {
	name, version, exact := strings.Cut(s, "=")
	r.name, r.arch, _ = strings.Cut(name, ":")
	if !isName(r.name) || strings.Contains(name, ":") && !isName(r.arch) {
		return r, fmt.Errorf("%q is no name of a package", name)
	}
	if exact {
		if r.op, r.version = "=", version; version == "" || strings.ContainsAny(version, space+"()|,<>=[]") {
			return r, fmt.Errorf("%q is no version", version)
		}
	}
	return r, nil
}

// choose decides step by step, each time for what is preferred among what is left. That the
// rest can still be granted is asked for many steps at once: where it can't, the first step
// too many is found, that package ruled out, and the way goes on from before it. So what
// was decided always has a solution, and nothing is tried twice.
func (p *problem) choose(ctx context.Context) ([]*pkg, error) {
	var fixed []*pkg
	out := map[*pkg]bool{}
	for {
		w := p.walk(fixed, out)
		good, err := p.longest(ctx, w.steps)
		if err != nil {
			return nil, err
		}
		if good == len(w.steps) {
			if w.stuck {
				panic("tools: a choice that has a solution leads nowhere")
			}
			return p.prune(w), nil
		}
		fixed = w.steps[:good]
		out[w.steps[good]] = true
	}
}

// longest finds how many of the steps can be taken together.
func (p *problem) longest(ctx context.Context, steps []*pkg) (int, error) {
	lits := make([]z.Lit, len(steps))
	at := make(map[z.Lit]int, len(steps))
	for i, s := range steps {
		lits[i] = p.nodes[s].lit
		at[lits[i]] = i
	}
	for {
		ok, core, err := p.solve(ctx, p.grants, lits)
		if ok || err != nil {
			return len(lits), err
		}
		last := -1
		for _, l := range core {
			if i, ok := at[l]; ok {
				last = max(last, i)
			}
		}
		if last < 0 {
			return 0, fmt.Errorf("the solver contradicts itself")
		}
		lits = lits[:last]
	}
}

// A walk goes from the wishes to all that is needed.
type walk struct {
	p      *problem
	out    map[*pkg]bool
	steps  []*pkg
	in     map[*pkg]bool
	beside map[*pkg]bool // excluded by what is in
	open   []*need
	stuck  bool
}

func (p *problem) walk(fixed []*pkg, out map[*pkg]bool) *walk {
	w := &walk{p: p, out: out, in: map[*pkg]bool{}, beside: map[*pkg]bool{}}
	for _, n := range p.wishes {
		if n.base == nil && !n.wish.There {
			w.open = append(w.open, n)
		}
	}
	for _, q := range fixed {
		w.take(q)
	}
	for len(w.open) > 0 && !w.stuck {
		w.settle()
		if len(w.open) > 0 && !w.stuck {
			n := w.open[0]
			w.open = w.open[1:]
			w.take(w.best(w.left(n)))
		}
	}
	return w
}

func (w *walk) take(q *pkg) {
	if w.in[q] {
		return
	}
	w.in[q] = true
	w.steps = append(w.steps, q)
	n := w.p.nodes[q]
	for _, c := range n.conflicts {
		w.beside[c] = true
	}
	w.open = append(w.open, n.needs...)
}

// settle closes what is granted, and takes what is the only way, until all that is open is
// a choice.
func (w *walk) settle() {
	for again := true; again && !w.stuck; {
		again = false
		var choices []*need
		for i := 0; i < len(w.open); i++ {
			n := w.open[i]
			if w.granted(n) {
				continue
			}
			switch left := w.left(n); len(left) {
			case 0:
				w.stuck = true
				return
			case 1:
				w.take(left[0].pkg)
				again = true
			default:
				choices = append(choices, n)
			}
		}
		w.open = choices
	}
}

func (w *walk) granted(n *need) bool {
	return slices.ContainsFunc(n.options, func(o option) bool { return w.in[o.pkg] })
}

func (w *walk) left(n *need) (left []option) {
	for _, o := range n.options {
		if !w.out[o.pkg] && !w.beside[o.pkg] {
			left = append(left, o)
		}
	}
	return left
}

// best is the preferred of some options: the first, but among packages of several names that
// merely provide what is needed the one that brings the fewest others.
func (w *walk) best(left []option) *pkg {
	best, least := left[0], -1
	for i, o := range left {
		if o.class != best.class || best.class%2 == 0 {
			break
		}
		if i > 0 && o.name == left[i-1].name {
			continue
		}
		if n := w.burden(o.pkg, least); least < 0 || n < least {
			best, least = o, n
		}
	}
	return best.pkg
}

// burden is how many packages come with q, where the first option is always taken; it counts
// up to a bound.
func (w *walk) burden(q *pkg, bound int) int {
	const most = 500
	if bound < 0 || bound > most {
		bound = most
	}
	with := map[*pkg]bool{q: true}
	list := []*pkg{q}
	for i := 0; i < len(list) && len(list) < bound; i++ {
		for _, n := range w.p.nodes[list[i]].needs {
			left := w.left(n)
			if len(left) == 0 || w.granted(n) || slices.ContainsFunc(left, func(o option) bool { return with[o.pkg] }) {
				continue
			}
			with[left[0].pkg] = true
			list = append(list, left[0].pkg)
		}
	}
	return len(list)
}
