package scrub

import (
	"fmt"
	"strings"
)

// Script writes the rules for a script that has to apply them where this program can't
// run: lines of a word, and fields that tabs separate. Patterns are extended regular
// expressions (POSIX), without a back-reference.
//
//	secret|noise|made  noDirs  kind  key  reason
//	    kind P is the path, B all below it, A a name anywhere, W all below such a name
//	    and it, E an ending of names, G an expression, which the first element of a
//	    path precedes
//	shape    literal  tail  reason     tokens; the tails count with {}, which not every
//	                                   awk does, and all others don't
//	words    name  values              lists
//	look     what  words  before  value  after
//	                                   how a line sets a secret, and words of which one
//	                                   is in such a line, in lower case
//	except   name  expression          what a value isn't
//	version  of these rules
func Script() string {
	var b strings.Builder
	for _, t := range []struct {
		word  string
		rules []rule
	}{{"secret", secrets}, {"noise", noise}, {"made", made}} {
		x := newIndex(t.rules)
		for i, r := range t.rules {
			x.script(&b, t.word, i, r)
		}
	}
	for _, s := range shapes {
		fmt.Fprintf(&b, "shape\t%s\t%s\t%s\n", s.literal, counted(s.tail), s.reason)
	}
	scriptContent(&b)
	r, err := New(nil, nil)
	if err != nil {
		panic(err) // without a pattern there is nothing to be wrong
	}
	fmt.Fprintf(&b, "version\t%s\n", r.version)
	return b.String()
}

// script writes one rule of a table.
func (x *index) script(b *strings.Builder, word string, i int, r rule) {
	dirs := 0
	if x.noDirs[i] {
		dirs = 1
	}
	line := func(kind, key string) { fmt.Fprintf(b, "%s\t%d\t%s\t%s\t%s\n", word, dirs, kind, key, r.reason) }
	p, _ := strings.CutSuffix(r.pattern, "!")
	if g, ok := x.glob[i]; ok {
		top, _, _ := strings.Cut(g.literal, "/")
		line("G", top+"\t^"+strings.TrimPrefix(g.re.String(), "(?s)^"))
		return
	}
	body, rooted := strings.CutPrefix(p, "/")
	dir, below := strings.CutSuffix(body, "/**")
	both, plus := strings.CutSuffix(body, "+")
	switch {
	case rooted && plus:
		line("P", both)
		line("B", both)
	case rooted && below:
		line("B", dir)
	case rooted:
		line("P", body)
	default:
		body = strings.TrimPrefix(p, "**/")
		dir, below = strings.CutSuffix(body, "/**")
		switch {
		case below:
			line("W", dir)
		case strings.HasPrefix(body, "*."):
			line("E", body[1:])
		default:
			line("A", body)
		}
	}
}
