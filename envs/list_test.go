package envs

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot"
)

func TestFindRelease(t *testing.T) {
	for version, want := range map[string]string{
		"8+deb8u11": "jessie", "9.9+deb9u13": "stretch", "10.3+deb10u13": "buster", "11.1+deb11u11": "bullseye", "11": "bullseye",
		"12.4+deb12u12": "bookworm", "13.8+deb13u1": "trixie", "14": "", "1": "", "110.1": "", "9.4ubuntu4.14": "xenial",
		"7.2ubuntu5.6": "trusty", "11ubuntu5.8": "focal", "11ubuntu14": "", "12ubuntu4.7": "jammy", "13ubuntu10.3": "noble", "10.1ubuntu2": "bionic",
	} {
		if r, ok := findRelease(version); r.codename != want || ok != (want != "") {
			t.Errorf("base-files %s is of %q, want %q", version, r.codename, want)
		}
	}
}

func TestSuites(t *testing.T) {
	for codename, want := range map[string]string{
		"buster":   "deb S buster/updates main contrib non-free",
		"bullseye": "deb S bullseye-security main contrib non-free",
		"bookworm": "deb S bookworm-security main contrib non-free non-free-firmware",
		"jammy":    "deb S jammy-security main restricted universe multiverse",
	} {
		i := slices.IndexFunc(distReleases, func(r distRelease) bool { return r.codename == codename })
		if got := distReleases[i].suites("M", "S"); got[2] != want || len(distReleases[i].suites("M", "")) != 2 {
			t.Errorf("got %q", got)
		}
	}
}

func TestCheckArchive(t *testing.T) {
	for line, ok := range map[string]bool{
		"deb http://mirror.example/debian bullseye main":                       true,
		"deb [signed-by=/k/a.gpg,/k/b.gpg] http://mirror.example/x stable a b": true,
		"deb-src http://mirror.example/debian bullseye main":                   false,
		"http://mirror.example/debian":                                         false,
		"deb http://mirror.example/debian bullseye main\ndeb x y z":            false,
		"deb file:/srv/mirror bullseye main":                                   false,
	} {
		if err := checkArchive(line); (err == nil) != ok {
			t.Errorf("%q: %v", line, err)
		}
	}
	if got := signedByFiles("deb [arch=amd64 signed-by=/k/../a.gpg,ABCD] http://mirror.example/x stable a"); !reflect.DeepEqual(got, []string{"/a.gpg"}) {
		t.Errorf("got %q", got)
	}
}

func TestCompareList(t *testing.T) {
	l := &lock.Lock{Packages: []lock.Package{
		{Name: "bash", Version: "5.1", Architecture: "amd64"},
		{Name: "gone", Version: "1", Architecture: "all", State: "config-files"},
		{Name: "held", Version: "2", Architecture: "amd64", Want: "hold"},
		{Name: "libc6", Version: "2.31", Architecture: "amd64"}, {Name: "libc6", Version: "2.31", Architecture: "i386"},
		{Name: "old", Version: "3", Architecture: "all"}}}
	pkg := func(name, version, arch, want string) snapshot.Package {
		return snapshot.Package{Name: name, Version: version, Architecture: arch, Want: want, State: "installed"}
	}
	same := []snapshot.Package{pkg("bash", "5.1", "", "install"), pkg("held", "2", "amd64", "hold"), pkg("libc6", "2.31", "amd64", "install"),
		pkg("libc6", "2.31", "i386", "install"), pkg("old", "3", "all", "install")}
	if got := CompareList(l, same); len(got) != 0 {
		t.Errorf("got %v for the same", got)
	}
	got := fmt.Sprint(CompareList(l, []snapshot.Package{pkg("bash", "5.2", "amd64", "install"), pkg("held", "2", "amd64", "install"),
		pkg("libc6", "2.31", "amd64", "install"), pkg("new", "1", "all", "hold"), pkg("old", "3", "all", "install")}))
	want := "[{bash amd64 5.1 5.2} {held amd64 2 (hold) 2} {libc6 i386 2.31 } {new all  1 (hold)}]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNearest(t *testing.T) {
	for _, test := range []struct{ want, have, nearest string }{
		{"1.0-1", "1.0-1+deb11u2 2.0 0.9", "1.0-1+deb11u2"},
		{"1:1.0", "9 1:0.9 1:0.8", "1:0.9"},
		{"1.0~rc1", "1.0~beta 1.0", "1.0"},
		{"1.0", "", ""},
		{"1.0", "not~a~version? 0.1", "0.1"},
	} {
		if got := nearest(test.want, strings.Fields(test.have)); got != test.nearest {
			t.Errorf("nearest to %s of %s: got %q, want %q", test.want, test.have, got, test.nearest)
		}
	}
}

func TestListChoose(t *testing.T) {
	var notes []string
	l := &lister{cfg: Config{Progress: func(e snapshot.Event) { notes = append(notes, e.Note) }}}
	l.opts.Without = []string{"libc6:i386", "vendor"}
	err := l.choose([]snapshot.Package{{Name: "bash", State: "installed"}, {Name: "gone", State: "config-files"},
		{Name: "half", State: "half-configured"}, {Name: "late", State: "triggers-pending"}, {Name: "vendor", State: "installed"},
		{Name: "libc6", Architecture: "amd64", State: "installed"}, {Name: "libc6", Architecture: "i386", State: "installed"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range l.packages {
		names = append(names, p.Name+p.Architecture)
	}
	if fmt.Sprint(names) != "[bash late libc6amd64]" || len(notes) != 2 || !strings.Contains(notes[0], "gone") || !strings.Contains(notes[1], "half (half-configured)") {
		t.Errorf("chose %v, noted %q", names, notes)
	}
	l.opts.Without = []string{"no-such"}
	if err := l.choose(nil); err == nil || !strings.Contains(err.Error(), "no-such") {
		t.Errorf("got %v", err)
	}
}

func TestInstallOrder(t *testing.T) {
	all := []debControl{
		{name: "app", arch: "amd64", depends: "lib (>= 1) | other, mail-transport-agent"},
		{name: "base-files", arch: "amd64", essential: true, preDepends: "awk"},
		{name: "circle-a", arch: "all", preDepends: "circle-b"},
		{name: "circle-b", arch: "all", preDepends: "circle-a"},
		{name: "dpkg", arch: "amd64", essential: true, preDepends: "libz (>= 1:1.2), tar:any [linux-any]", depends: "missing"},
		{name: "dpkg", arch: "i386", essential: true},
		{name: "init-helper", arch: "all", depends: "perl-x"},
		{name: "lib", arch: "amd64", preDepends: "init-helper (>= 1.54~)"},
		{name: "libz", arch: "amd64", depends: "libz-data"}, {name: "libz", arch: "i386"},
		{name: "libz-data", arch: "all"},
		{name: "mawk", arch: "amd64", provides: "awk (= 1.3)"},
		{name: "perl-x", arch: "amd64"},
		{name: "postfix", arch: "amd64", provides: "default-mta, mail-transport-agent"},
		{name: "tar", arch: "amd64"},
	}
	g := newDebGraph(all)
	names := func(list []int) string {
		var s []string
		for _, i := range list {
			s = append(s, all[i].name+":"+all[i].arch)
		}
		return strings.Join(s, " ")
	}
	essential := g.essential("amd64")
	if got, want := names(essential), "base-files:amd64 dpkg:amd64 libz:amd64 libz-data:all mawk:amd64 tar:amd64"; got != want {
		t.Errorf("essential are %s, want %s", got, want)
	}
	batches := g.batches(essential)
	if len(batches) < 2 || names(batches[0]) != "init-helper:all perl-x:amd64" {
		t.Fatalf("the first batch is %s", names(batches[0]))
	}
	count := map[int]int{}
	for _, b := range append(batches, essential) {
		for _, i := range b {
			count[i]++
		}
	}
	for i, c := range all {
		if count[i] != 1 {
			t.Errorf("%s is installed %d times", c.name, count[i])
		}
	}
	if got := names(g.closure([]int{0})); got != "app:amd64 init-helper:all lib:amd64 perl-x:amd64 postfix:amd64" {
		t.Errorf("app needs %s", got)
	}
}

func FuzzInstallOrder(f *testing.F) {
	f.Add("a (>= 1) | b:any, c", "b, d", "e (= 1)")
	f.Fuzz(func(t *testing.T, pre, deps, provides string) {
		all := []debControl{{name: "a", essential: true, depends: deps}, {name: "b", preDepends: pre}, {name: "c", provides: provides, preDepends: deps},
			{name: "d", depends: provides}, {name: "e", preDepends: provides}}
		g := newDebGraph(all)
		done := g.essential("")
		n := len(done)
		for _, b := range g.batches(done) {
			n += len(b)
		}
		if n != len(all) && all[0].arch == "" {
			t.Errorf("%d of %d are installed", n, len(all))
		}
	})
}
