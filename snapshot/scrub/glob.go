package scrub

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// glob is a pattern for absolute paths, with ** for any number of folders.
type glob struct {
	pattern string // as written
	literal string // what precedes the first wildcard, without the leading slash
	re      *regexp.Regexp
}

const maxPattern = 1024

func newGlob(p string) (glob, error) {
	if !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "**/") {
		return glob{}, fmt.Errorf("pattern %q is no absolute path", p)
	}
	if len(p) > maxPattern {
		return glob{}, fmt.Errorf("pattern %.40q… is too long", p)
	}
	g := glob{pattern: p}
	p = strings.TrimPrefix(strings.TrimSuffix(strings.TrimSuffix(p, "/"), "/**"), "/") // below it matches anyway
	g.literal = p
	if i := strings.IndexAny(p, "*?[\\"); i >= 0 {
		g.literal = p[:i]
	}
	// A path is a byte string: (?s) lets . match a newline, and names that are
	// not UTF-8 match . a byte at a time.
	var err error
	if g.re, err = regexp.Compile(`(?s)^` + translate(p) + `(/.*)?$`); err != nil {
		return glob{}, fmt.Errorf("pattern %q: %w", g.pattern, err)
	}
	return g, nil
}

// translate makes a regular expression of a glob.
func translate(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case strings.HasPrefix(p[i:], "**/"):
			b.WriteString(`(.*/)?`)
			i += 2
		case strings.HasPrefix(p[i:], "**"):
			b.WriteString(`.*`)
			i++
		case c == '*':
			b.WriteString(`[^/]*`)
		case c == '?':
			b.WriteString(`[^/]`)
		case c == '[' && strings.IndexByte(p[i:], ']') > 1:
			end := i + strings.IndexByte(p[i:], ']')
			set := strings.ReplaceAll(p[i+1:end], `\`, `\\`)
			if set[0] == '!' {
				set = "^/" + set[1:]
			}
			b.WriteString("[" + set + "]")
			i = end
		default:
			b.WriteString(regexp.QuoteMeta(string(rune(c))))
		}
	}
	return b.String()
}

func (g glob) match(path string) bool {
	return strings.HasPrefix(path, g.literal) && g.re.MatchString(path)
}

// names reports whether a pattern is the very path.
func (g glob) names(path string) bool { return g.pattern == "/"+path }

// answers reports whether a pattern is as specific as a rule that says secret.
func (g glob) answers(path, rulePattern string) bool {
	if g.names(path) {
		return true
	}
	literal := strings.TrimPrefix(rulePattern, "/")
	if i := strings.IndexAny(literal, "*?[+!"); i >= 0 {
		literal = literal[:i]
	}
	literal = strings.TrimSuffix(literal, "/")
	return literal != "" && strings.HasPrefix(g.literal, literal)
}

// rule is a line of a table.
type rule struct {
	pattern string
	class   snapshot.Class
	reason  string
}

// index finds the first rule of a table that matches a path in a few lookups,
// because it is asked millions of times. The patterns it knows:
//
//	/a/b        the path            /a/**    all below it
//	/a/b+       it and all below    **/a/n   a name anywhere
//	**/n/**     all below that name, and it
//	**/*.x      names that end so   anything else: a glob
//
// A trailing ! keeps a rule from folders: they are left to Place.
type index struct {
	rules  []rule
	body   []string // what a path must end with, where a map's key isn't all of it
	noDirs []bool
	path   map[string]int
	below  map[string]int
	name   map[string][]int // by the last element
	within map[string][]int // by the last element of the folder
	ext    map[string][]int // by the last extension
	globs  map[string][]int // by the first element, "" for any
	glob   map[int]glob
}

func newIndex(rules []rule) *index {
	x := &index{rules: rules, body: make([]string, len(rules)), noDirs: make([]bool, len(rules)),
		path: map[string]int{}, below: map[string]int{}, name: map[string][]int{}, within: map[string][]int{},
		ext: map[string][]int{}, globs: map[string][]int{}, glob: map[int]glob{}}
	for i, r := range rules {
		p, noDirs := strings.CutSuffix(r.pattern, "!")
		x.noDirs[i] = noDirs
		if body, rooted := strings.CutPrefix(p, "/"); !rooted || !x.rooted(i, body) {
			if rooted || !x.anywhere(i, strings.TrimPrefix(p, "**/")) {
				x.any(i, p)
			}
		}
	}
	return x
}

func wild(s string) bool { return strings.ContainsAny(s, "*?[") }

func (x *index) rooted(i int, body string) bool {
	set := func(m map[string]int, key string) {
		if _, ok := m[key]; !ok {
			m[key] = i
		}
	}
	dir, below := strings.CutSuffix(body, "/**")
	both, plus := strings.CutSuffix(body, "+")
	switch {
	case plus:
		set(x.path, both)
		set(x.below, both)
	case !wild(body):
		set(x.path, body)
	case below && !wild(dir):
		set(x.below, dir)
	default:
		return false
	}
	return true
}

func (x *index) anywhere(i int, body string) bool {
	last := func(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }
	dir, below := strings.CutSuffix(body, "/**")
	ext, star := strings.CutPrefix(body, "*.")
	switch {
	case !wild(body):
		x.body[i] = body
		x.name[last(body)] = append(x.name[last(body)], i)
	case below && !wild(dir):
		x.body[i] = dir
		x.within[last(dir)] = append(x.within[last(dir)], i)
	case star && !wild(ext) && !strings.Contains(ext, "/"):
		x.body[i] = "." + ext
		key := x.body[i][strings.LastIndexByte(x.body[i], '.'):]
		x.ext[key] = append(x.ext[key], i)
	default:
		return false
	}
	return true
}

func (x *index) any(i int, p string) {
	g, err := newGlob(p)
	if err != nil {
		panic(err) // a table of ours is wrong, which any test shows
	}
	x.glob[i] = g
	top, _, _ := strings.Cut(g.literal, "/")
	x.globs[top] = append(x.globs[top], i)
}

// endsWith reports whether a path ends with whole elements.
func endsWith(path, end string) bool {
	return strings.HasSuffix(path, end) && (len(path) == len(end) || path[len(path)-len(end)-1] == '/')
}

func (x *index) find(path string, t snapshot.Type) *rule {
	best := len(x.rules)
	take := func(i int, ok bool) {
		if ok && i < best && !(t == snapshot.Dir && x.noDirs[i]) {
			best = i
		}
	}
	i, ok := x.path[path]
	take(i, ok)
	start := 0
	for end := 0; end <= len(path); end++ {
		if end < len(path) && path[end] != '/' {
			continue
		}
		if end < len(path) {
			i, ok := x.below[path[:end]]
			take(i, ok)
		}
		for _, i := range x.within[path[start:end]] {
			take(i, endsWith(path[:end], x.body[i]))
		}
		if end < len(path) {
			start = end + 1
		}
	}
	name := path[start:]
	for _, i := range x.name[name] {
		take(i, endsWith(path, x.body[i]))
	}
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		for _, i := range x.ext[name[dot:]] {
			take(i, strings.HasSuffix(name, x.body[i]))
		}
	}
	top, _, _ := strings.Cut(path, "/")
	for _, first := range [...]string{top, ""} {
		for _, i := range x.globs[first] {
			take(i, i < best && x.glob[i].match(path))
		}
	}
	if best == len(x.rules) {
		return nil
	}
	return &x.rules[best]
}
