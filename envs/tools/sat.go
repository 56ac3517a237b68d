package tools

import (
	"context"
	"errors"
	"time"

	"github.com/go-air/gini"
	"github.com/go-air/gini/z"
)

// maxLiterals bounds what is put before the solver, and with it memory. Two desktops and all
// of TeX, from nothing, have 50,000.
const maxLiterals = 3_000_000

var errTooMuch = errors.New("the packages that are in question have too many relations")

// sat is the solver of propositions, with an end.
type sat struct {
	g        *gini.Gini
	literals int
}

func newSAT() *sat { return &sat{g: gini.New()} }

func (s *sat) lit() z.Lit { return s.g.Lit() }

// full reports that it is too much.
func (s *sat) full() bool { return s.literals > maxLiterals }

// assert adds a clause: one of the literals holds.
func (s *sat) assert(lits ...z.Lit) {
	s.literals += len(lits)
	for _, l := range lits {
		s.g.Add(l)
	}
	s.g.Add(z.LitNull)
}

// solve reports whether the clauses can hold under assumptions; where they can't, core are
// some of the assumptions under which they already can't. The solver has no context: it is
// asked again and again for a little longer, and keeps what it learned.
func (s *sat) solve(ctx context.Context, assume ...[]z.Lit) (ok bool, core []z.Lit, err error) {
	if s.full() {
		return false, nil, errTooMuch
	}
	for patience := 200 * time.Millisecond; ; patience += patience / 2 {
		if err := ctx.Err(); err != nil {
			return false, nil, context.Cause(ctx)
		}
		for _, lits := range assume {
			s.g.Assume(lits...)
		}
		switch s.g.Try(patience) {
		case 1:
			return true, nil, nil
		case -1:
			return false, s.g.Why(nil), nil
		}
	}
}
