package tools

import (
	"math/rand/v2"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	debversion "github.com/knqyf263/go-deb-version"
)

func TestVersions(t *testing.T) {
	versions := []string{"0~~", "0~~a", "0~", "0", "0a", "0+", "0.1~rc1", "0.1", "0.1-0ubuntu1", "0.1-1~bpo11+1", "0.1-1", "0.1-1+b1", "0.1-1.1",
		"0.1+dfsg-1", "0.9", "0.10", "1.0A", "1.0a", "1.0aa", "1.0", "1-1", "1.0-1-1", "2.3.4-5+deb11u9", "2.3.4-5+deb11u10",
		"20230101123456789012345", "20230101123456789012346", "1:0", "1:0.1", "2:0-1", "10:0"}
	dpkg, err := exec.LookPath("dpkg")
	for i, a := range versions {
		for j, b := range versions {
			if compareVersions(a, b) != -compareVersions(b, a) {
				t.Errorf("%s and %s are ordered one-sidedly", a, b)
			}
			if err != nil || (i+j)%7 != 0 {
				continue
			}
			for op, want := range map[string]bool{"lt": compareVersions(a, b) < 0, "eq": compareVersions(a, b) == 0} {
				if got := exec.Command(dpkg, "--compare-versions", a, op, b).Run() == nil; got != want {
					t.Errorf("%s %s %s: dpkg says %v", a, op, b, got)
				}
			}
		}
	}
}

// The library says the same where it can read versions.
func TestVersionsAsTheLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	text := func() string {
		var b strings.Builder
		if r.IntN(4) == 0 {
			b.WriteString([]string{"0:", "1:", "12:"}[r.IntN(3)])
		}
		b.WriteByte('0' + byte(r.IntN(10)))
		for range r.IntN(8) {
			b.WriteByte("0019az+.~-"[r.IntN(10)])
		}
		return b.String()
	}
	for range 20000 {
		a, b := text(), text()
		x, err := debversion.NewVersion(a)
		if err != nil {
			continue
		}
		y, err := debversion.NewVersion(b)
		if err != nil {
			continue
		}
		if got, want := compareVersions(a, b), sign(x.Compare(y)); got != want {
			t.Fatalf("%s and %s: %d, the library says %d", a, b, got, want)
		}
	}
}

func TestRelations(t *testing.T) {
	for field, want := range map[string][][]relation{
		"":                               nil,
		" a ,\n b|c:any(>=1:2.0-1~x) , ": {{{name: "a"}}, {{name: "b"}, {name: "c", arch: "any", op: ">=", version: "1:2.0-1~x"}}},
		"a (<1), b (> 1), c ( << 1 )":    {{{name: "a", op: "<=", version: "1"}}, {{name: "b", op: ">=", version: "1"}}, {{name: "c", op: "<<", version: "1"}}},
		"g++ (= 4:10.2.1-1), libstdc++6": {{{name: "g++", op: "=", version: "4:10.2.1-1"}}, {{name: "libstdc++6"}}},
		"a [amd64 arm64], b [!amd64], c [any-amd64], d <!nocheck !cross> <cross>, e <cross>": {{{name: "a"}}, {{name: "c"}}, {{name: "d"}}},
		"x [i386] | y": {{{name: "y"}}},
	} {
		if got, err := parseRelations(field, "amd64"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q is read as %v, %v", field, got, err)
		}
	}
	for _, field := range []string{"a b", "a (", "a (1)", "a (=)", "a (= 1 2)", "(= 1)", "a:", ":any", "a |", "| a", "a [amd64", "a <x", "a (!= 1)",
		"ä", "-a", "${misc:Depends}", "a (= 1) (= 2)", strings.Repeat("a,", maxRelations+1), strings.Repeat(" ", maxField+1)} {
		if got, err := parseRelations(field, "amd64"); err == nil {
			t.Errorf("%.40q is read as %v", field, got[:min(len(got), 5)])
		}
	}
}

func FuzzRelations(f *testing.F) {
	for _, field := range []string{"", "a", "libc6 (>= 2.14), a | b:any (<< 1:2~x-3)", "a [!i386] <!nocheck> <x y>", "a (<1)", "a(=1)[amd64]<x>,", "a |"} {
		f.Add(field)
	}
	f.Fuzz(func(t *testing.T, field string) {
		list, err := parseRelations(field, "amd64")
		if err != nil {
			return
		}
		var parts []string
		for _, alternatives := range list {
			parts = append(parts, spell(alternatives))
			for _, r := range alternatives {
				if r.name == "" || r.op == "" != (r.version == "") {
					t.Fatalf("%q has the relation %+v", field, r)
				}
				if r.op != "" && (compareVersions(r.version, r.version) != 0 || compareVersions(r.version, "1") != -compareVersions("1", r.version)) {
					t.Fatalf("%q can't be ordered", r.version)
				}
			}
		}
		if again, err := parseRelations(strings.Join(parts, ", "), "amd64"); err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%q is read as %v, and that as %v, %v", field, list, again, err)
		}
	})
}

func FuzzWish(f *testing.F) {
	for _, s := range []string{"gcc", "libssl-dev=1.1.1w-0+deb11u1", "libfoo-dev:i386", "a:any=1", "=", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseWish(s)
		if err != nil {
			return
		}
		field := r.String()
		if again, err := parseRelations(field, "amd64"); err != nil || len(again) != 1 || !reflect.DeepEqual(again[0], []relation{r}) {
			t.Fatalf("%q is %v: %v, %v", s, r, again, err)
		}
	})
}
