package scrub

import (
	"fmt"
	"maps"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// scriptContent writes the rules on contents for a script. What a line has to look like
// may be wider than here, so that more is left behind; what a value isn't is the same.
func scriptContent(b *strings.Builder) {
	for _, w := range []struct {
		name  string
		words []string
	}{
		{"placeholders", slices.Sorted(maps.Keys(placeholders))}, {"source", sourceCode}, {"examples", examples}, {"hints", hints},
		{"documented", documented}, {"translated", translated}, {"administered", administered}, {"distributed", distributed},
		{"brought", brought}, {"encoded", encodedPEM[:]},
	} {
		fmt.Fprintf(b, "words\t%s\t%s\n", w.name, strings.Join(w.words, " "))
	}
	look := func(what, words, re string) {
		for _, s := range around(parsed(re)) {
			fmt.Fprintf(b, "look\t%s\t%s\t%s\t%s\t%s\n", what, words, s[0], s[1], s[2])
		}
	}
	look("table", ":", pgpass().String())
	look("table", ":", relay().String())
	words := map[string][]string{}
	for _, g := range given {
		words[g.re().String()] = append(words[g.re().String()], g.word)
	}
	for _, re := range slices.Sorted(maps.Keys(words)) {
		look("given", strings.Join(words[re], "|"), re)
	}
	look("assigns", "", assigns().String())
	look("form", "</", element().String())
	look("form", "name=|key=", entry().String())
	look("form", "", spaced().String())
	look("setting", ">", acl().String())
	look("form", "secret|password|passphrase|identified", named().String())
	look("form", "jdbc:oracle:", oracle().String())
	look("form", "setcredential=", credential().String())
	look("form", "-token", tokenHeader().String())
	look("form", "authorization", tokenScheme().String())
	look("across", "value", strings.TrimPrefix(pair().String(), "^"))
	look("across", "password", netrc().String())
	look("header", "authorization", authorization().String())
	look("registry", `"auth"|"identitytoken"`, dockerAuth().String())
	fmt.Fprintf(b, "except\tidentifier\t%s\n", uncounted(identifier().String()))
	fmt.Fprintf(b, "except\tordinary\t%s\n", uncounted(ordinary().String()))
	fmt.Fprintf(b, "except\tsomeword\t%s\n", uncounted(someWord().String()))
}

func parsed(re string) *syntax.Regexp {
	p, err := syntax.Parse(re, syntax.Perl)
	if err != nil {
		panic(err) // it is compiled elsewhere
	}
	return p
}

// counted is an expression as grep -E takes it, uncounted as every awk does.
func counted(re string) string   { return printer{counts: true}.print(parsed(re)) }
func uncounted(re string) string { return printer{}.print(parsed(re)) }

// around cuts an expression at its groups: what is before each, the group, what is after.
func around(re *syntax.Regexp) (parts [][3]string) {
	p := printer{}
	switch re.Op {
	case syntax.OpCapture:
		return [][3]string{{"", p.print(re.Sub[0]), ""}}
	case syntax.OpAlternate:
		for _, s := range re.Sub {
			parts = append(parts, around(s)...)
		}
	case syntax.OpConcat:
		for i, s := range re.Sub {
			for _, inner := range around(s) {
				before, after := "", ""
				for j, t := range re.Sub {
					if j < i {
						before += p.at(t, j == 0)
					} else if j > i {
						after += p.at(t, false)
					}
				}
				parts = append(parts, [3]string{before + inner[0], inner[1], inner[2] + after})
			}
		}
	}
	return parts
}

// printer writes expressions of Go as extended ones of POSIX.
type printer struct{ counts bool }

func (p printer) print(re *syntax.Regexp) string { return p.at(re, true) }

// at prints; first says that nothing comes before, for the edge of a word.
func (p printer) at(re *syntax.Regexp, first bool) string {
	switch re.Op {
	case syntax.OpLiteral:
		var b strings.Builder
		for _, r := range re.Rune {
			b.WriteString(letter(r, re.Flags&syntax.FoldCase != 0))
		}
		return b.String()
	case syntax.OpCharClass:
		return class(re.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return "."
	case syntax.OpBeginLine, syntax.OpBeginText:
		return "^"
	case syntax.OpEndLine, syntax.OpEndText:
		return "$"
	case syntax.OpWordBoundary:
		if first {
			return "(^|[^0-9A-Za-z_])"
		}
		return "([^0-9A-Za-z_]|$)"
	case syntax.OpCapture:
		return "(" + p.at(re.Sub[0], first) + ")"
	case syntax.OpConcat:
		text := ""
		for i, s := range re.Sub {
			text += p.at(s, first && i == 0)
		}
		return text
	case syntax.OpAlternate:
		var all []string
		maybe := ""
		for _, s := range re.Sub {
			if text := p.at(s, first); text != "" {
				all = append(all, text)
			} else {
				maybe = "?" // POSIX has no empty alternative
			}
		}
		return "(" + strings.Join(all, "|") + ")" + maybe
	case syntax.OpStar:
		return p.atom(re.Sub[0]) + "*"
	case syntax.OpPlus:
		return p.atom(re.Sub[0]) + "+"
	case syntax.OpQuest:
		return p.atom(re.Sub[0]) + "?"
	case syntax.OpRepeat:
		return p.repeat(re)
	case syntax.OpEmptyMatch:
		return ""
	}
	panic("no extended expression says " + re.String())
}

// atom prints what a star may stand behind.
func (p printer) atom(re *syntax.Regexp) string {
	text := p.at(re, false)
	if re.Op == syntax.OpCharClass || re.Op == syntax.OpLiteral && len(re.Rune) == 1 || strings.HasPrefix(text, "(") && strings.HasSuffix(text, ")") && re.Op != syntax.OpConcat {
		return text
	}
	return "(" + text + ")"
}

// most is up to how often something is spelled out.
const most = 20

func (p printer) repeat(re *syntax.Regexp) string {
	a := p.atom(re.Sub[0])
	switch {
	case p.counts && re.Max < 0:
		return fmt.Sprintf("%s{%d,}", a, re.Min)
	case p.counts && re.Max == re.Min:
		return fmt.Sprintf("%s{%d}", a, re.Min)
	case p.counts:
		return fmt.Sprintf("%s{%d,%d}", a, re.Min, re.Max)
	}
	text := strings.Repeat(a, min(re.Min, most))
	switch {
	case re.Min > most || re.Max < 0 || re.Max > most:
		return text + a + "*"
	default:
		return text + strings.Repeat(a+"?", re.Max-re.Min)
	}
}

func letter(r rune, fold bool) string {
	if low, up := strings.ToLower(string(r)), strings.ToUpper(string(r)); fold && low != up && r < 0x80 {
		return "[" + low + up + "]"
	}
	if strings.ContainsRune(`.[\()*+?{|^$`, r) {
		return `\` + string(r)
	}
	return string(r)
}

// class prints a set of characters of ASCII; lines have no line break.
func class(ranges []rune) string {
	negated := ranges[len(ranges)-1] == unicode.MaxRune
	var in [0x80]bool
	for i := 0; i < len(ranges); i += 2 {
		for r := ranges[i]; r <= min(ranges[i+1], 0x7f); r++ {
			in[r] = true
		}
	}
	body, bracket, caret, dash := "", "", "", ""
	for r := 1; r < 0x80; r++ {
		if in[r] == negated {
			continue
		}
		to := r
		for isWord(to+1) && in[to+1] != negated && isWord(r) {
			to++
		}
		switch {
		case r == '\n':
		case r == ']':
			bracket = "]"
		case r == '^':
			caret = "^"
		case r == '-':
			dash = "-"
		case r == '\\':
			body += `\\`
		case r < ' ':
			body += map[int]string{'\t': `\t`, '\r': `\r`, '\f': `\f`, '\v': `\v`}[r]
		case to > r+1:
			body += string(rune(r)) + "-" + string(rune(to))
			r = to
		default:
			body += string(rune(r))
		}
	}
	if negated {
		return "[^" + bracket + body + caret + dash + "]"
	}
	if bracket+body+dash == "" {
		return `\^`
	}
	return "[" + bracket + body + caret + dash + "]"
}

func isWord(r int) bool { return r < 0x80 && wordByte(byte(r)) && r != '_' }
