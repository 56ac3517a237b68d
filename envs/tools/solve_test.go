package tools

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// A known case: what comes of the wishes, or what the error must say.
type known struct {
	name, base, offers, wishes string
	want                       string   // the packages
	chain, ways                []string // parts of lines, in turn
}

var cases = []known{
	{name: "alone", offers: "make 4.3", wishes: "make", want: "make 4.3"},
	{name: "there already", base: "make 4.3", offers: "make 4.4", wishes: "make"},
	{name: "provided by the base already", base: "mawk 1.3; Provides: awk", offers: "gawk 5; Provides: awk", wishes: "awk"},
	{name: "a chain", offers: `gcc 4:10; Depends: gcc-10 (>= 10.2), cpp (= 4:10)
		gcc-10 10.2.1; Depends: libgcc
		cpp 4:10
		libgcc 10`, wishes: "gcc", want: "cpp 4:10, gcc 4:10, gcc-10 10.2.1, libgcc 10"},
	{name: "the base grants what is needed", base: "libc6 2.31", offers: "gcc 10; Depends: libc6 (>= 2.14)\nlibc6 2.36", wishes: "gcc", want: "gcc 10"},
	{name: "the newest", offers: "make 4.2\nmake 4.10\nmake 4.9", wishes: "make", want: "make 4.10"},
	{name: "the older that fits", base: "libpq5 13.8", offers: `libpq-dev 13.11; Depends: libpq5 (= 13.11)
		libpq5 13.11
		libpq-dev 13.8; Depends: libpq5 (= 13.8)`, wishes: "libpq-dev", want: "libpq-dev 13.8"},
	{name: "an older one of two deep", base: "libssl1.1 1.1.1n", offers: `a 1; Depends: libssl-dev
		libssl-dev 1.1.1w; Depends: libssl1.1 (= 1.1.1w)
		libssl-dev 1.1.1n; Depends: libssl1.1 (= 1.1.1n)`, wishes: "a", want: "a 1, libssl-dev 1.1.1n"},
	{name: "a tilde is before the end", offers: "x 1.0~rc1; Provides: y\nx 1.0", wishes: "x", want: "x 1.0"},
	{name: "epochs go first", offers: "x 1:1\nx 9", wishes: "x", want: "x 1:1"},
	{name: "strictly earlier", offers: "a 1; Depends: x (<< 2)\nx 2\nx 2~beta", wishes: "a", want: "a 1, x 2~beta"},
	{name: "strictly later", offers: "a 1; Depends: x (>> 2)\nx 2\nx 2-1", wishes: "a", want: "a 1, x 2-1"},
	{name: "the old spelling of at most", offers: "a 1; Depends: x (< 2)\nx 2\nx 3", wishes: "a", want: "a 1, x 2"},
	{name: "at most", offers: "a 1; Depends: x (<= 2)\nx 2\nx 3", wishes: "a", want: "a 1, x 2"},
	{name: "a rebuild isn't the version", offers: "a 1; Depends: x (= 2)\nx 2+b1", wishes: "a",
		chain: []string{"a 1 needs x (= 2)", "of x archives have only x 2+b1"}},
	{name: "the first alternative", offers: "a 1; Depends: x | y\nx 1\ny 1", wishes: "a", want: "a 1, x 1"},
	{name: "the second where the base has it", base: "y 1", offers: "a 1; Depends: x | y\nx 1", wishes: "a", want: "a 1"},
	{name: "the second where the first isn't", offers: "a 1; Depends: x | y\ny 1", wishes: "a", want: "a 1, y 1"},
	{name: "the second where the first doesn't fit", base: "z 1", offers: "a 1; Depends: x | y\nx 1; Conflicts: z\ny 1", wishes: "a", want: "a 1, y 1"},
	{name: "the second where it is needed anyway", offers: "a 1; Depends: x | y, b\nb 1; Depends: y\nx 1\ny 1", wishes: "a", want: "a 1, b 1, y 1"},
	{name: "the second where it is wished, too", offers: "a 1; Depends: x | y\nx 1\ny 1", wishes: "a, y", want: "a 1, y 1"},
	{name: "the first turns out to be impossible far away", offers: `a 1; Depends: x | y, n
		x 1; Depends: x2
		x2 1; Depends: x3
		x3 1; Conflicts: m
		y 1
		n 1; Depends: n2 | n3
		n2 1; Depends: m
		n3 1; Depends: m
		m 1`, wishes: "a", want: "a 1, m 1, n 1, n2 1, y 1"},
	{name: "a real one before one that provides", offers: "a 1; Depends: x\nb 1; Provides: x\nx 0.1", wishes: "a", want: "a 1, x 0.1"},
	{name: "one that provides", offers: "a 1; Depends: x\nb 1; Provides: x", wishes: "a", want: "a 1, b 1"},
	{name: "the one of those that provide that brings the fewest", offers: `a 1; Depends: x
		b 1; Provides: x; Depends: b1, b2
		b1 1
		b2 1
		c 1; Provides: x; Depends: c1
		c1 1`, wishes: "a", want: "a 1, c 1, c1 1"},
	{name: "provided without a version isn't any version", offers: "a 1; Depends: x (>= 1)\nb 2; Provides: x", wishes: "a",
		chain: []string{"a 1 needs x (>= 1)", "no archive has x (>= 1)"}},
	{name: "provided with a version", offers: "a 1; Depends: x (>= 1)\nb 9; Provides: x (= 0.9)\nc 1; Provides: x (= 1.0)", wishes: "a", want: "a 1, c 1"},
	{name: "provided in a relation that isn't equal counts for nothing", offers: "a 1; Depends: x\nb 1; Provides: x (>= 1)", wishes: "a",
		chain: []string{"a 1 needs x", "no archive has x"}},
	{name: "conflicts with the base", base: "exim 1", offers: "postfix 1; Conflicts: exim", wishes: "postfix",
		chain: []string{"postfix 1 conflicts with exim", "acme has exim 1, which stays"}},
	{name: "breaks another version of the base's", base: "exim 1", offers: "postfix 1; Breaks: exim (<< 1)", wishes: "postfix", want: "postfix 1"},
	{name: "conflicts with what the base provides", base: "exim 1; Provides: mta", offers: "postfix 1; Provides: mta; Conflicts: mta", wishes: "postfix",
		chain: []string{"postfix 1 conflicts with mta, which exim provides", "acme has exim 1"}},
	{name: "itself isn't what it conflicts with", offers: "postfix 1; Provides: mta; Conflicts: mta, postfix", wishes: "postfix", want: "postfix 1"},
	{name: "the base conflicts", base: "old 1; Breaks: new (<< 2)", offers: "new 1\nnew 2", wishes: "new=1",
		chain: []string{"acme's old 1 breaks new (<< 2)", "acme has old 1"}},
	{name: "the base conflicts with what is provided", base: "old 1; Conflicts: thing", offers: "new 1; Provides: thing", wishes: "new",
		chain: []string{"acme's old 1 conflicts with thing, which new provides"}},
	{name: "with a version it conflicts with provided versions", base: "old 1; Conflicts: thing (<< 2)",
		offers: "new 1; Provides: thing (= 1)\nnewer 1; Provides: thing (= 2), new\nnewest 1; Provides: thing, new", wishes: "newest, newer", want: "newer 1, newest 1"},
	{name: "two wishes exclude each other", offers: "a 1; Conflicts: b\nb 1", wishes: "a, b",
		chain: []string{"a 1 conflicts with b", "a is asked for, too"}},
	{name: "two versions of one package", offers: "a 1; Depends: x (= 1)\nb 1; Depends: x (= 2)\nx 1\nx 2", wishes: "a, b",
		chain: []string{"a 1 needs x (= 1)", "exclude each other"}},
	{name: "what isn't fully installed satisfies nobody", base: "x 1; State: half-configured", offers: "a 1; Depends: x", wishes: "a",
		chain: []string{"a 1 needs x", "acme has x 1, which is not fully installed"}},
	{name: "what isn't fully installed isn't mended", base: "x 1; State: unpacked", offers: "x 1", wishes: "x",
		chain: []string{"acme has x 1, which is not fully installed"}},
	{name: "what waits for triggers is there", base: "x 1; State: triggers-awaited", offers: "a 1; Depends: x", wishes: "a", want: "a 1"},
	{name: "what was removed is not", base: "x 1; State: deinstall ok config-files; Conflicts: a", offers: "a 1; Depends: x\nx 2", wishes: "a", want: "a 1, x 2"},
	{name: "all is native", base: "x:all 1", offers: "a 1; Depends: x\nx 2\nb:all 1; Depends: c\nc 1", wishes: "a, b", want: "a 1, b:all 1, c 1"},
	{name: "all in place of native is a replacement", base: "x:all 1", offers: "x 1\na 1; Depends: x (>> 1)\nx 2", wishes: "a",
		chain: []string{"a 1 needs x (>> 1)", "acme has x 1"}},
	{name: "another architecture's satisfies nobody", base: "x:i386 1", offers: "a 1; Depends: x", wishes: "a", chain: []string{"a 1 needs x", "acme has x:i386 1"}},
	{name: "but where it is foreign", base: "x:i386 1; Multi-Arch: foreign", offers: "a 1; Depends: x", wishes: "a", want: "a 1"},
	{name: "allowed isn't foreign", base: "x:i386 1; Multi-Arch: allowed", offers: "a 1; Depends: x", wishes: "a", chain: []string{"a 1 needs x"}},
	{name: "any of what is allowed", base: "x:i386 1; Multi-Arch: allowed", offers: "a 1; Depends: x:any", wishes: "a", want: "a 1"},
	{name: "any of what isn't allowed", base: "x 1", offers: "a 1; Depends: x:any", wishes: "a", chain: []string{"a 1 needs x:any"}},
	{name: "any provided by what is allowed", base: "python3 3.9; Multi-Arch: allowed; Provides: py (= 3)", offers: "a:i386 1; Depends: py:any (>= 3)", wishes: "a:i386", want: "a:i386 1"},
	{name: "by architecture", base: "x:i386 1", offers: "a 1; Depends: x:i386\nb 1; Depends: x:amd64 | x:native", wishes: "a", want: "a 1"},
	{name: "native", offers: "a:i386 1; Depends: x:native\nx 1\nx:i386 2", wishes: "a:i386", want: "a:i386 1, x 1"},
	{name: "another architecture of the same version", base: "x 1; Multi-Arch: same", offers: "x:i386 2; Multi-Arch: same\nx:i386 1; Multi-Arch: same", wishes: "x:i386", want: "x:i386 1"},
	{name: "another architecture of another version", base: "x 1; Multi-Arch: same", offers: "x:i386 2; Multi-Arch: same", wishes: "x:i386",
		chain: []string{"x:i386 2 can't be beside the package for amd64", "acme has x 1"}},
	{name: "another architecture of what can't have two", base: "x 1", offers: "x:i386 1", wishes: "x:i386", chain: []string{"can't be beside"}},
	{name: "lock step among what is added", offers: "a 1; Depends: x, x:i386\nx 2; Multi-Arch: same\nx 1; Multi-Arch: same\nx:i386 1; Multi-Arch: same", wishes: "a",
		want: "a 1, x 1, x:i386 1"},
	{name: "a conflict means every architecture", base: "x:i386 1", offers: "a 1; Conflicts: x\nb 1; Conflicts: x:amd64", wishes: "b", want: "b 1"},
	{name: "a foreign one's needs are its own", offers: "a:i386 1; Depends: x\nx 2\nx:i386 1", wishes: "a:i386", want: "a:i386 1, x:i386 1"},
	{name: "an architecture that isn't known", offers: "x:arm64 1", wishes: "x:arm64", chain: []string{"no archive has x:arm64"}, ways: []string{"dpkg --add-architecture"}},
	{name: "relations of source packages", offers: "a 1; Depends: x [i386], y [!i386] <!nocheck>, z <stage1>, v [linux-any]\ny 1\nv 1", wishes: "a", want: "a 1, v 1, y 1"},
	{name: "needs in a circle", offers: "a 1; Depends: b\nb 1; Depends: a", wishes: "a", want: "a 1, b 1"},
	{name: "needs before unpacking", offers: "a 1; Pre-Depends: b\nb 1", wishes: "a", want: "a 1, b 1"},
	{name: "a version is wished", offers: "x 1\nx 2", wishes: "x=1", want: "x 1"},
	{name: "a version is wished that isn't there", offers: "x 1\nx 2", wishes: "x=3", chain: []string{"of x archives have only x 2, x 1"}, ways: []string{"x is offered as 2, 1"}},
	{name: "any of the wishes", offers: "b 1", wishes: "a | b", want: "b 1"},
	{name: "the first of the wishes", offers: "b 1\na 1", wishes: "b | a", want: "b 1"},
	{name: "any of the wishes is there", base: "a 1", offers: "b 1", wishes: "b | a"},
	{name: "wished by what it provides", offers: "libssl-dev 1; Provides: ssl-dev", wishes: "ssl-dev", want: "libssl-dev 1"},
	{name: "of the same version by rank", offers: "x 1; Rank: **; Archive: far\nx 1; Rank: *; Archive: near; Depends: y\ny 1", wishes: "x", want: "x 1, y 1"},
	{name: "backports only where they must", offers: "x 2; NotAutomatic\nx 1\na 1; Depends: y (>= 2)\ny 1\ny 2; NotAutomatic", wishes: "a, x", want: "a 1, x 1, y 2"},
	{name: "a name with a mistake", offers: "libpq-dev 1\ncmake 1", wishes: "libqp-dev", chain: []string{"no archive has libqp-dev"}, ways: []string{"there is libpq-dev"}},
	{name: "a name without its end", offers: "libpq-dev 1\nlibpq5 1", wishes: "libpq", chain: []string{"no archive has libpq"}, ways: []string{"libpq-dev"}},
	{name: "behind its archive", base: "libpq5 13.8-0+deb11u1", offers: "libpq-dev 13.11-0+deb11u1; Depends: libpq5 (= 13.11-0+deb11u1)\nlibpq5 13.11-0+deb11u1", wishes: "libpq-dev",
		chain: []string{"libpq-dev 13.11-0+deb11u1 needs libpq5 (= 13.11-0+deb11u1)", "acme has libpq5 13.8-0+deb11u1, which stays"},
		ways:  []string{"libpq-dev 13.8-0+deb11u1 would fit", "libpq5 13.11-0+deb11u1 instead of 13.8-0+deb11u1"}},
	{name: "two would have to move", base: "libx 1; Depends: libx-data (= 1)\nlibx-data 1\nother 1", offers: `libx-dev 2; Depends: libx (= 2)
		libx 2; Depends: libx-data (= 2)
		libx-data 2
		other 2`, wishes: "libx-dev", chain: []string{"libx-dev 2 needs libx (= 2)"}, ways: []string{"libx-dev 1 would fit", "libx 2 instead of 1, libx-data 2 instead of 1"}},
	{name: "the wished version isn't the base's", base: "x 1", offers: "x 2", wishes: "x=2", chain: []string{"acme has x 1, which stays"},
		ways: []string{"ask for x without a version: acme keeps its 1", "x 2 instead of 1"}},
	{name: "the wished version is nowhere, and the base has one", base: "x 2", offers: "x 3\nx 2", wishes: "x=1", chain: []string{"acme has x 2, which stays"},
		ways: []string{"ask for x without a version: acme keeps its 2"}},
	{name: "a name of a source", offers: "libssl-dev 3; Source: openssl", wishes: "openssl-dev", chain: []string{"no archive has openssl-dev"}, ways: []string{"there is libssl-dev"}},
	{name: "a mistake in a name that is near many", base: "libssl3 3", offers: "libell-dev 1\nlibssl-dev 1\nlibsdl-dev 1", wishes: "libsll-dev",
		chain: []string{"no archive has libsll-dev"}, ways: []string{"there is libssl-dev, libell-dev, libsdl-dev"}},
	{name: "offered for another architecture", offers: "gcc 1", wishes: "gcc:i386", chain: []string{"no archive has gcc:i386"}, ways: []string{"gcc is offered for amd64"}},
	{name: "a base package that others need moves with them", base: "libx 1\nuser 1; Depends: libx (= 1)", offers: "libx-dev 2; Depends: libx (= 2)\nlibx 2\nuser 2; Depends: libx (= 2)",
		wishes: "libx-dev", chain: []string{"acme has libx 1, which stays"}, ways: []string{"libx 2 instead of 1, user 2 instead of 1"}},
	{name: "no move helps", base: "libx 1\nuser 1; Depends: libx (= 1)", offers: "libx-dev 2; Depends: libx (= 2)\nlibx 2",
		wishes: "libx-dev", chain: []string{"acme has libx 1, which stays"}, ways: []string{"libx-dev 1 would fit"}},
	{name: "what can't be read isn't taken", offers: "a 2; Depends: x (1)\na 1", wishes: "a", want: "a 1"},
	{name: "a provided qualifier", offers: "a 1; Depends: x:any\nb 1; Provides: x:any", wishes: "a", want: "a 1, b 1"},
}

func TestSolve(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			offers, _ := parseLines(t, c.offers)
			base := parseBase(t, c.base)
			a, err := Solve(t.Context(), base, offers, parseWishes(c.wishes))
			if len(c.chain) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				if got := spelled(a); got != c.want {
					t.Errorf("chose %q, want %q", got, c.want)
				}
				sameInAnyOrder(t, c, a)
				return
			}
			var none *UnsolvableError
			if !errors.As(err, &none) {
				t.Fatalf("chose %v, %v", a, err)
			}
			inTurn(t, none.Chain, c.chain)
			inTurn(t, none.WaysOut, c.ways)
		})
	}
}

// inTurn checks that lines hold parts, one after the other.
func inTurn(t *testing.T, lines, parts []string) {
	t.Helper()
	at := 0
	for _, part := range parts {
		i := slices.IndexFunc(lines[at:], func(l string) bool { return strings.Contains(l, part) })
		if i < 0 {
			t.Errorf("%q misses %q, or has it too early", lines, part)
			return
		}
		at += i
	}
}

// sameInAnyOrder solves again with everything shuffled.
func sameInAnyOrder(t *testing.T, c known, want *Answer) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		offers, _ := parseLines(t, c.offers)
		base, wishes := parseBase(t, c.base), parseWishes(c.wishes)
		random.Shuffle(len(offers), func(i, j int) { offers[i], offers[j] = offers[j], offers[i] })
		random.Shuffle(len(wishes), func(i, j int) { wishes[i], wishes[j] = wishes[j], wishes[i] })
		random.Shuffle(len(base.Packages), func(i, j int) {
			base.Packages[i], base.Packages[j] = base.Packages[j], base.Packages[i]
		})
		a, err := Solve(t.Context(), base, offers, wishes)
		if err != nil || !reflect.DeepEqual(a, want) {
			t.Fatalf("in another order it is %v, %v; it was %v", a, err, want)
		}
	}
}

func TestWhoNeedsIt(t *testing.T) {
	offers, _ := parseLines(t, "a 1; Depends: x, y\nb 1; Depends: x\nx 1; Depends: z:i386\ny 1\nz:i386 1; Depends: v\nv:i386 1")
	base := parseBase(t, "w 7")
	a, err := Solve(t.Context(), base, offers, []Wish{{Text: "pkgconfig:b", AnyOf: []string{"b"}}, {Text: "a", AnyOf: []string{"a"}},
		{Text: "w", AnyOf: []string{"w"}}, {Text: "file:/usr/bin/ls", There: true}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range a.Packages {
		got = append(got, c.Name+"<"+c.Wish+"<"+strings.Join(c.For, "+"))
	}
	if want := "a<a< b<pkgconfig:b< v<<z:i386 x<<a+b y<<a z<<x"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
	want := []Grant{{"a", "a", "1", "amd64", false}, {"file:/usr/bin/ls", "", "", "", true},
		{"pkgconfig:b", "b", "1", "amd64", false}, {"w", "w", "7", "amd64", true}}
	if !reflect.DeepEqual(a.Granted, want) {
		t.Errorf("granted are %v", a.Granted)
	}
}

// What nobody can solve in time ends with its context: 13 pigeons for 12 holes.
func TestEnd(t *testing.T) {
	var lines, wishes []string
	for pigeon := range 13 {
		var holes []string
		for hole := range 12 {
			name := fmt.Sprintf("h%d-%d", hole, pigeon)
			holes = append(holes, name)
			lines = append(lines, fmt.Sprintf("%s 1; Provides: h%d; Conflicts: h%d", name, hole, hole))
		}
		wish := fmt.Sprintf("p%d", pigeon)
		lines = append(lines, wish+" 1; Depends: "+strings.Join(holes, " | "))
		wishes = append(wishes, wish)
	}
	offers, _ := parseLines(t, strings.Join(lines, "\n"))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if a, err := Solve(ctx, parseBase(t, ""), offers, parseWishes(strings.Join(wishes, ","))); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, %v", a, err)
	}
}

func TestErrors(t *testing.T) {
	if _, err := Solve(t.Context(), parseBase(t, "x 1; Conflicts: a b c"), nil, nil); err == nil || !strings.Contains(err.Error(), "x") {
		t.Errorf("a base that can't be read: %v", err)
	}
	if _, err := Solve(t.Context(), parseBase(t, "x 1"), nil, []Wish{{Text: "n", AnyOf: []string{"a b"}}}); err == nil || !strings.Contains(err.Error(), `"a b"`) {
		t.Errorf("a wish that can't be read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	offers, _ := parseLines(t, "a 1")
	if _, err := Solve(ctx, parseBase(t, ""), offers, parseWishes("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	var crowd []Candidate
	for i := range 3000 {
		c, _ := parsePackage(t, fmt.Sprintf("p%d 1; Provides: v; Conflicts: v", i))
		crowd = append(crowd, c)
	}
	if _, err := Solve(t.Context(), parseBase(t, ""), crowd, parseWishes("v")); !errors.Is(err, errTooMuch) {
		t.Errorf("a crowd of packages that exclude each other: %v", err)
	}
	var none *UnsolvableError
	_, err := Solve(t.Context(), parseBase(t, ""), nil, []Wish{{Text: "pkgconfig:nothing"}})
	if !errors.As(err, &none) || none.Wish != "pkgconfig:nothing" || len(none.Chain) == 0 {
		t.Errorf("a wish for nothing: %v", err)
	}
}
