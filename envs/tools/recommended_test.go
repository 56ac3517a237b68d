package tools

import "testing"

// What the wished packages recommend comes along where it fits, and nothing that others
// recommend.
func TestRecommended(t *testing.T) {
	for _, c := range []struct{ name, base, offers, wishes, want string }{
		{"one that fits", "", "gcc 10; Recommends: libc6-dev | libc-dev; Depends: cpp\ncpp 10; Recommends: doc\nlibc6-dev 2; Depends: h\nh 1\ndoc 1",
			"gcc", "cpp 10, gcc 10, h 1, libc6-dev 2"},
		{"the base has it", "libc6-dev 2", "gcc 10; Recommends: libc6-dev | libc-dev", "gcc", "gcc 10"},
		{"the base provides it", "musl-dev 2; Provides: libc-dev", "gcc 10; Recommends: libc6-dev | libc-dev\nlibc6-dev 2", "gcc", "gcc 10"},
		{"another wish brings it", "", "gcc 10; Recommends: libc6-dev\nlibc6-dev 2", "gcc, libc6-dev", "gcc 10, libc6-dev 2"},
		{"it doesn't fit", "libc6 2", "gcc 10; Recommends: libc6-dev, make\nlibc6-dev 3; Depends: libc6 (= 3)\nmake 4", "gcc", "gcc 10, make 4"},
		{"nobody has it", "", "gcc 10; Recommends: libc6-dev", "gcc", "gcc 10"},
		{"it conflicts with a wish", "", "a 1; Recommends: x\nb 1; Conflicts: x\nx 1", "a, b", "a 1, b 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := parseBase(t, c.base)
			offers, _ := parseLines(t, c.offers)
			wishes := parseWishes(c.wishes)
			first, err := Solve(t.Context(), base, offers, wishes)
			if err != nil {
				t.Fatal(err)
			}
			a, err := Solve(t.Context(), base, offers, append(wishes, first.Recommended(base)...))
			if err != nil {
				t.Fatal(err)
			}
			if got := spelled(a); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if len(a.Granted) != len(wishes) {
				t.Errorf("the wishes are %v", a.Granted)
			}
			for _, p := range a.Packages {
				if p.Wish == "" && len(p.For) == 0 {
					t.Errorf("nobody needs %s", p.Name)
				}
			}
		})
	}
}
