package artifact

import (
	"testing"

	"github.com/stead-env/stead/envs/artifact/content"
)

func packaged(format content.Format, p content.Package) *Set {
	if p.Name == "" {
		p.Name = "app"
	}
	return &Set{Packages: []Package{{File: "dist/app", Format: format, Package: &p}}}
}

func TestDebDepends(t *testing.T) {
	for relation, c := range map[string]struct {
		want  Verdict
		words string
	}{
		"libc6 (>= 2.31)":                   {Starts, ""},
		"libc6 (>= 2.34)":                   {Fails, "depends on libc6 (>= 2.34), and acme@3 has libc6 2.31-13+deb11u11"},
		"libc6 (>> 2.31-13)":                {Starts, ""},
		"libc6 (<< 2.31)":                   {Fails, "libc6"},
		"libc6 (= 2.31-13+deb11u11)":        {Starts, ""},
		"libssl3 (>= 3.0.0)":                {Fails, "libssl3 (>= 3.0.0), and acme@3 has none installed"},
		"libssl3 | libssl1.1 (>= 1.1.0)":    {Starts, ""},
		"mail-transport-agent":              {Starts, ""},
		"mail-transport-agent (>= 1)":       {Fails, "mail-transport-agent"},
		"mta (>= 1)":                        {Starts, ""},
		"mta (>= 3)":                        {Fails, "mta"},
		"perlapi-5.32.1":                    {Starts, ""},
		"perlapi-5.36.0":                    {Fails, "perlapi-5.36.0"},
		"libc6:any (>= 2.4)":                {Starts, ""},
		"libc6 (>= 2.4) [amd64] <!nocheck>": {Starts, ""},
		"libssl1.1(>=1.1.1)":                {Starts, ""},
		"libssl1.1 (>= 1.1.1w-0+deb11u1~)":  {Starts, ""},
		"libssl1.1 (>= 2:1.0)":              {Fails, "libssl1.1"},
		"libssl1.1 (>= not a version)":      {Fails, ""},
		"libc6:amd64 (>= 2.4)":              {Starts, ""},
		"libc6:native":                      {Starts, ""},
		"libc6:i386 (>= 2.4)":               {Fails, "libc6:i386 (>= 2.4), and acme@3 has none installed"},
		"perlapi-5.32.1:i386":               {Fails, "install perlapi-5.32.1:i386"},
		"app-data":                          {Fails, "app-data"},
		"\x00":                              {Fails, ""},
	} {
		expect(t, judged(t, acme(), packaged(content.Deb, content.Package{Depends: []string{relation}})), c.want, c.words)
	}
	both := packaged(content.Deb, content.Package{Version: "2.0", Depends: []string{"app-data (= 2.0)"}})
	both.Packages = append(both.Packages, Package{Format: content.Deb, Package: &content.Package{Name: "app-data", Version: "2.0"}})
	expect(t, judged(t, acme(), both), Starts)
	expect(t, judged(t, acme(), packaged(content.Deb, content.Package{Excludes: []string{"exim4 (<< 4.95)"}})), Fails, "excludes exim4")
	expect(t, judged(t, acme(), packaged(content.Deb, content.Package{Excludes: []string{"exim4 (<< 4.90)"}})), Starts)
	expect(t, judged(t, acme(), packaged(content.Deb, content.Package{Architecture: "arm64"})), Fails, "is for arm64, and acme@3 is amd64")
	expect(t, judged(t, acme(), packaged(content.RPM, content.Package{Depends: []string{"bash"}})), Unproven, "acme@3 has no rpm")
	foreign := acme()
	foreign.Facts.Packages[1].Architecture = "i386"
	expect(t, judged(t, foreign, packaged(content.Deb, content.Package{Architecture: "amd64", Depends: []string{"libssl1.1"}})), Fails, "libssl1.1")
	expect(t, judged(t, foreign, packaged(content.Deb, content.Package{Architecture: "i386", Depends: []string{"libssl1.1", "exim4"}})), Starts)
	expect(t, judged(t, foreign, packaged(content.Deb, content.Package{Architecture: "i386", Depends: []string{"libc6"}})), Fails, "libc6")
	empty := acme()
	empty.Facts.Packages = nil
	expect(t, judged(t, empty, packaged(content.Deb, content.Package{Depends: []string{"bash"}})), Unproven, "isn't known")
}

func TestRPMRequires(t *testing.T) {
	target := acme()
	target.Facts.Packages[2].Name = "rpm"
	target.Facts.Packages[1].Version = "1:1.1.1k-9.el8"
	target.Facts.Packages[4].Provides = []string{"perl(A::B) = 2.0"}
	for relation, c := range map[string]Verdict{
		"rpmlib(CompressedFileNames) <= 3.0.4-1": Starts,
		"libc.so.6(GLIBC_2.34)(64bit)":           Starts, // its files are judged by themselves
		"libssl1.1 >= 1:1.1.1":                   Starts,
		"libssl1.1 >= 1:1.1.1k-10":               Fails,
		"libssl1.1 = 1:1.1.1k":                   Starts,
		"/bin/sh":                                Starts,
		"/bin/zsh":                               Fails,
		"config(app) = 2.0":                      Starts,
		"nothing-like-it":                        Fails,
		"(bash or zsh)":                          Unproven,
		"perl(A::B) >= 2":                        Starts,
		"perl(A::C)":                             Fails,
	} {
		expect(t, judged(t, target, packaged(content.RPM, content.Package{Depends: []string{relation}})), c)
	}
}

func TestWheels(t *testing.T) {
	for tag, want := range map[string]Verdict{
		"py3-none-any":                     Starts,
		"py2-none-any":                     Fails,
		"cp39-cp39-manylinux_2_17_x86_64":  Starts,
		"cp39-cp39-manylinux_2_34_x86_64":  Fails,
		"cp39-cp39-manylinux2014_x86_64":   Starts,
		"cp39-cp39-manylinux2014_aarch64":  Fails,
		"cp311-cp311-manylinux2014_x86_64": Fails,
		"cp37-abi3-manylinux_2_28_x86_64":  Starts,
		"cp310-abi3-manylinux_2_28_x86_64": Fails,
		"cp39-cp39-musllinux_1_1_x86_64":   Fails,
		"cp39-cp39-linux_x86_64":           Starts,
		"cp39-cp39-macosx_11_0_arm64":      Fails,
		"py3-none-manylinux_2_17_x86_64":   Starts,
		"x":                                Fails,
		"c-abi3-any":                       Fails,
		"py39-none-any":                    Starts,
		"py310-none-any":                   Fails,
	} {
		set := packaged(content.Wheel, content.Package{Tags: []string{tag}})
		if a := judged(t, acme(), set); a.Verdict != want {
			t.Errorf("%s: %s, want %s", tag, a.Verdict, want)
		}
	}
	for clause, want := range map[string]bool{"": true, ">=3.8": true, ">=3.10": false, ">=3.6, <4": true, "!=3.9.*": false,
		"~=3.7": true, "==3.9.*": true, "==3.9.2": true, "<3.9": false, ">3": true, "~=4.0": false} {
		set := packaged(content.Wheel, content.Package{Tags: []string{"py3-none-any"}, Python: clause})
		if a := judged(t, acme(), set); (a.Verdict == Starts) != want {
			t.Errorf("%q: %s", clause, a.Verdict)
		}
	}
}

// FuzzRelation holds that no relation makes judging end but with an answer.
func FuzzRelation(f *testing.F) {
	for _, r := range []string{"libc6 (>= 2.31)", "a | b (<< 1)", "/bin/sh", "libc.so.6(GLIBC_2.34)(64bit)", "cp39-cp39-manylinux_2_17_x86_64", ">=3.8,!=3.9.*"} {
		f.Add(r)
	}
	target := acme()
	target.Facts.Packages = append(target.Facts.Packages, target.Facts.Packages[2])
	target.Facts.Packages[2].Name = "rpm"
	f.Fuzz(func(t *testing.T, r string) {
		for _, format := range []content.Format{content.Deb, content.RPM, content.Wheel} {
			p := content.Package{Depends: []string{r}, Excludes: []string{r}, Tags: []string{r}, Python: r}
			judged(t, target, packaged(format, p))
		}
	})
}
