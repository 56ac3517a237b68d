package archive

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/archive/archivetest"
	"github.com/stead-env/stead/envs/lock"
)

// A library of the base, and what one builds with: its current version and the one that
// the base has.
var (
	libOld  = newDeb("libssl1.1", "1.1.1k-1", "amd64").says("Source: openssl", "Multi-Arch: same")
	libNew  = newDeb("libssl1.1", "1.1.1w-0", "amd64").says("Source: openssl (1.1.1w)", "Multi-Arch: same")
	devOld  = newDeb("libssl-dev", "1.1.1k-1", "amd64").says("Source: openssl", "Depends: libssl1.1 (= 1.1.1k-1)")
	devNew  = newDeb("libssl-dev", "1.1.1w-0", "amd64").says("Source: openssl", "Depends: libssl1.1 (= 1.1.1w-0)", "Provides: libssl1.0-dev (= 1.0), ssl-dev")
	maker   = newDeb("make", "4.3-4", "amd64").says("Pre-Depends: dpkg (>= 1.17)", "Depends: libc6 (>= 2.27) | libc,", " virtual-thing [amd64]", "Breaks: a", "Conflicts: b", "Replaces: c", "Multi-Arch: allowed")
	virtual = newDeb("thing", "1", "all").says("Provides: virtual-thing")
	foreign = newDeb("libi", "1", "i386")
	other   = newDeb("unrelated", "1", "all")
)

func offers(t *testing.T, d Debian, opts OfferOptions) *Offers {
	t.Helper()
	res, err := d.Offers(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// only1 is a base with one package.
func only1(name, version string) func(string, string) string {
	return func(n, _ string) string {
		if n == name {
			return version
		}
		return ""
	}
}

// spell says what is offered, in its order.
func spell(res *Offers) string {
	var all []string
	for _, o := range res.Packages {
		all = append(all, fmt.Sprintf("%s %s %s %d", o.Name, o.Version, o.Architecture, o.Rank))
	}
	return strings.Join(all, ", ")
}

// All that an archive has for the architectures of a base is offered, with what each
// package says of others.
func TestOffers(t *testing.T) {
	key := newKey(t, 0)
	srv := serve(t, newRepo(t, key, maker, devNew, libNew, virtual, foreign, other).files)
	var n notes
	d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	res := offers(t, d, OfferOptions{})
	want := "libssl-dev 1.1.1w-0 amd64 0, libssl1.1 1.1.1w-0 amd64 0, make 4.3-4 amd64 0, thing 1 all 0, unrelated 1 all 0"
	if got := spell(res); got != want || len(res.Problems) > 0 {
		t.Errorf("got %s, problems %v", got, res.Problems)
	}
	m := res.Packages[2]
	if m.PreDepends != "dpkg (>= 1.17)" || m.Depends != "libc6 (>= 2.27) | libc, virtual-thing [amd64]" || m.Breaks != "a" || m.Conflicts != "b" ||
		m.Replaces != "c" || m.MultiArch != "allowed" || m.SHA256 != maker.sum() || m.Path != maker.path() ||
		m.Size != int64(len(maker.content)) || m.Proof != lock.Exact || m.Archive != "debian-bullseye" {
		t.Errorf("make is %+v", m)
	}
	if l := res.Packages[1]; l.Source != "openssl" || l.MultiArch != "same" {
		t.Errorf("the library is %+v", l)
	}
	if len(res.Archives) != 1 || !d.Store.HasBlob(res.Archives[0].InRelease) || len(res.Archives[0].SignedBy) != 1 {
		t.Errorf("archives %+v", res.Archives)
	}
	withForeign := offers(t, d, OfferOptions{Foreign: []string{"i386"}})
	if got := spell(withForeign); !strings.Contains(got, "libi 1 i386 0") {
		t.Errorf("with i386: %s", got)
	}
}

// What an archive such as backports has is marked: nobody gets it unasked.
func TestOffersAskedFor(t *testing.T) {
	key := newKey(t, 0)
	for extra, want := range map[string]bool{"": false, "NotAutomatic: yes\nButAutomaticUpgrades: yes\n": true} {
		r := newRepo(t, key, maker)
		r.extra = extra
		srv := serve(t, r.build(t).files)
		var n notes
		d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
		if res := offers(t, d, OfferOptions{}); len(res.Packages) != 1 || res.Packages[0].NotAutomatic != want {
			t.Errorf("with %q: %+v, %v", extra, res.Packages, res.Problems)
		}
	}
}

// Of what is asked for only what it may need is offered, through what others provide; what
// the base has needs nothing more.
func TestOffersReach(t *testing.T) {
	key := newKey(t, 0)
	srv := serve(t, newRepo(t, key, maker, devNew, libNew, virtual, other).files)
	var n notes
	d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	for _, tt := range []struct {
		names     []string
		installed string
		want      string
	}{
		{[]string{"make"}, "", "make, thing"},
		{[]string{"ssl-dev"}, "", "libssl-dev, libssl1.1"},
		{[]string{"make"}, "make", "make"},
		{[]string{"nothing"}, "", ""},
	} {
		res := offers(t, d, OfferOptions{Names: tt.names, Installed: only1(tt.installed, "1")})
		var got []string
		for _, o := range res.Packages {
			got = append(got, o.Name)
		}
		if s := strings.Join(got, ", "); s != tt.want || len(res.Archives) != min(len(got), 1) {
			t.Errorf("%v: got %s of %v", tt.names, s, res.Archives)
		}
	}
}

// pastArchive is an archive that has moved on, a snapshot archive that has how it was, and
// what a lock says of that time.
type pastArchive struct {
	srv  *server
	old  *server
	snap *archivetest.Snapshots
	lock *lock.Lock
}

func newPast(t *testing.T) (*pastArchive, Debian, *notes) {
	t.Helper()
	key := newKey(t, 0)
	before, now := newRepo(t, key, libOld, devOld, other), newRepo(t, key, libNew, devNew, other)
	p := &pastArchive{snap: archivetest.NewSnapshots(), srv: serve(t, now.files)}
	p.snap.At("debian", written.Add(day/4), before.files)
	p.snap.At("debian", written.Add(30*day), now.files)
	p.old = serveFunc(t, p.snap.ServeHTTP)
	h := hostWith(t, p.srv.URL+"/debian/", key)
	p.lock = &lock.Lock{Archives: []lock.Archive{{Name: "debian-bullseye", URI: p.srv.URL + "/debian", Suite: "bullseye",
		InRelease: sha(before.files["dists/bullseye/InRelease"]), SignedBy: []string{fingerprint(key)}, Dated: written}},
		Packages: []lock.Package{{Name: "libssl1.1", Version: "1.1.1k-1", Architecture: "amd64", Archive: "debian-bullseye", Path: libOld.path()}}}
	n := &notes{}
	return p, Debian{Host: h, Store: newStore(t), Architecture: "amd64", Previous: p.lock, Fetch: quick(n)}, n
}

// Where an archive has newer versions alone, the index that the lock names has those that
// fit the base: in a snapshot archive, verified by that index's own digest.
func TestOffersRecorded(t *testing.T) {
	p, d, _ := newPast(t)
	res := offers(t, d, OfferOptions{Names: []string{"libssl-dev"}})
	if got := spell(res); got != "libssl-dev 1.1.1w-0 amd64 0, libssl1.1 1.1.1w-0 amd64 0" {
		t.Errorf("without snapshots: %s", got)
	}
	if len(res.Problems) != 1 || !res.Problems[0].Past || !strings.Contains(res.Problems[0].Error(), "the index of 2021-08-14") ||
		!strings.Contains(res.Problems[0].Error(), "snapshots in fleet.toml") {
		t.Errorf("without snapshots: %v", res.Problems)
	}
	d.Snapshots = []string{p.old.URL}
	res = offers(t, d, OfferOptions{Names: []string{"libssl-dev"}})
	want := "libssl-dev 1.1.1w-0 amd64 0, libssl-dev 1.1.1k-1 amd64 1, libssl1.1 1.1.1w-0 amd64 0, libssl1.1 1.1.1k-1 amd64 1"
	if got := spell(res); got != want || len(res.Problems) > 0 {
		t.Errorf("got %s, problems %v", got, res.Problems)
	}
	dev := res.Packages[1]
	if dev.Archive != "debian-bullseye" || dev.Depends != "libssl1.1 (= 1.1.1k-1)" || dev.SHA256 != devOld.sum() {
		t.Errorf("got %+v", dev)
	}
	i := slices.IndexFunc(res.Archives, func(a lock.Archive) bool { return a.Name == dev.Archive })
	if i < 0 || res.Archives[i].InRelease != p.lock.Archives[0].InRelease || res.Packages[0].Archive == dev.Archive {
		t.Errorf("archives %+v", res.Archives)
	}
	file := Candidate{Want: devOld.Want, Path: dev.Path, Size: dev.Size, SHA256: dev.SHA256,
		URLs: URLs(res.Archives[i], dev.Path, SnapshotTrees(res.Archives[i], d.Snapshots))}
	p.snap.Has("debian", written, devOld.inPool())
	if err := Fetch(t.Context(), d.Store, []File{file.File()}, FetchOptions{}); err != nil {
		t.Error(err)
	}
	// What was seen of it stays, without the snapshots too.
	d.Snapshots = nil
	if got := spell(offers(t, d, OfferOptions{Names: []string{"libssl-dev"}})); got != want {
		t.Errorf("again: %s", got)
	}
	// All that is needed is here now: nobody has to be asked.
	asked := p.srv.count("") + p.old.count("")
	d.Offline = true
	if got := spell(offers(t, d, OfferOptions{Names: []string{"libssl-dev"}})); got != want || p.srv.count("")+p.old.count("") != asked {
		t.Errorf("offline: %s", got)
	}
	if err := d.Store.DropBlob(digest.NewDigestFromEncoded(digest.SHA256, currentIndex(t, d))); err != nil {
		t.Fatal(err)
	}
	res = offers(t, d, OfferOptions{Names: []string{"libssl-dev"}})
	if got := spell(res); strings.Contains(got, "1.1.1w") || len(res.Problems) != 1 || p.srv.count("")+p.old.count("") != asked {
		t.Errorf("offline, without an index: %s, problems %v", got, res.Problems)
	}
}

// currentIndex is the SHA-256 of the index of packages that the archive of d has now.
func currentIndex(t *testing.T, d Debian) string {
	t.Helper()
	a := newApt(d)
	if err := a.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	rel, err := a.latest(t.Context(), a.sources[0])
	if err != nil {
		t.Fatal(err)
	}
	return rel.files["main/binary-amd64/Packages.xz"].sha256
}

// A snapshot archive that has other bytes than the lock names offers nothing.
func TestOffersRecordedOther(t *testing.T) {
	p, d, _ := newPast(t)
	d.Snapshots = []string{p.old.URL}
	p.lock.Archives[0].InRelease = sha([]byte("another one"))
	res := offers(t, d, OfferOptions{Names: []string{"libssl-dev"}})
	if got := spell(res); strings.Contains(got, "1.1.1k") || len(res.Problems) != 1 {
		t.Errorf("got %s, problems %v", got, res.Problems)
	}
}

// What was proved by an old tree of a suite that the host doesn't name is joined by its
// siblings there, and by nothing else.
func TestOffersSiblings(t *testing.T) {
	p, d, _ := newPast(t)
	a := &p.lock.Archives[0]
	a.Name, a.URI, a.Suite = "debian-sid-20210814", p.old.URL+"/archive/debian/"+written.Add(day).Format(stamp), "sid"
	p.lock.Packages[0].Archive = a.Name
	sid := &repo{suite: "sid", endings: []string{".xz"}, key: newKey(t, 0), debs: []deb{libOld, devOld, other}}
	files := sid.build(t).files
	a.InRelease = sha(files["dists/sid/InRelease"])
	p.snap.At("debian", written.Add(day/2), files)
	res := offers(t, d, OfferOptions{})
	if got := spell(res); strings.Count(got, "unrelated") != 1 || !strings.Contains(got, "libssl-dev 1.1.1k-1 amd64 1") {
		t.Errorf("got %s, problems %v", got, res.Problems)
	}
}

// Where a host's own configuration stayed behind, the lock says which archives it had; of
// their components, those that its packages are of.
func TestOffersLocked(t *testing.T) {
	key := newKey(t, 0)
	r := newRepo(t, key, maker, libNew)
	srv := serve(t, withContents(t, r, "main/Contents-amd64", contentsText).files)
	machine := newHost(t)
	machine.write(t, "etc/apt/trusted.gpg.d/archive.gpg", publicKey(t, key))
	l := &lock.Lock{Archives: []lock.Archive{{Name: "debian-bullseye", URI: srv.URL + "/debian/", Suite: "bullseye",
		InRelease: sha([]byte("an older one")), SignedBy: []string{fingerprint(key)}, Dated: written.Add(-day)}}}
	var n notes
	d := Debian{Host: newHost(t), Store: newStore(t), Architecture: "amd64", Previous: l, Fetch: quick(&n)}
	for _, path := range []string{"", "pool/main/x.deb", "pool/contrib/x.deb"} {
		l.Packages = []lock.Package{{Name: "x", Version: "1", Archive: "debian-bullseye", Path: path}}
		res := offers(t, d, OfferOptions{Machine: machine})
		if got := spell(res); got != "libssl1.1 1.1.1w-0 amd64 0, make 4.3-4 amd64 0" || len(res.Problems) != 1 {
			t.Errorf("%q: got %s, problems %v", path, got, res.Problems)
		}
	}
	found, err := d.Shipping(t.Context(), []string{"usr/bin/cmake"}, OfferOptions{Machine: machine})
	if err != nil || len(found.Packages["usr/bin/cmake"]) != 2 {
		t.Errorf("got %+v, %v", found, err)
	}
}

// Files at hand are offered, unless an index has them already.
func TestOffersHeld(t *testing.T) {
	key := newKey(t, 0)
	srv := serve(t, newRepo(t, key, libNew, devNew, other).files)
	var n notes
	d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	pkg := func(p deb) lock.Package {
		return lock.Package{Name: p.Name, Version: p.Version, Architecture: p.Architecture, Path: p.path(), Size: int64(len(p.content)), SHA256: p.sum()}
	}
	from := lock.Archive{Name: "debian-bullseye", URI: "http://mirror.example/debian", Suite: "bullseye", InRelease: sha([]byte("x"))}
	asked := map[string]bool{}
	res := offers(t, d, OfferOptions{Names: []string{"libssl-dev"}, Held: func(_ context.Context, wanted func(string) bool) ([]Held, error) {
		for _, name := range []string{"libssl-dev", "libssl1.1", "unrelated"} {
			asked[name] = wanted(name)
		}
		return []Held{{Offer: Offer{Package: pkg(devOld), Depends: "libssl1.1 (= 1.1.1k-1)"}, From: from},
			{Offer: Offer{Package: pkg(libOld)}}, {Offer: Offer{Package: pkg(devNew)}, From: from},
			{Offer: Offer{Package: pkg(newDeb("libssl-dev", "3.0-1", "amd64"))}, From: from}, // newer than all that archives have
			{Offer: Offer{Package: pkg(newDeb("libssl-dev", "1.0-1", "amd64"))}, From: lock.Archive{Name: "x", Suite: "elsewhere", InRelease: from.InRelease}},
			{Offer: Offer{Package: lock.Package{Name: "libssl-dev", Architecture: "amd64", SHA256: "no"}}}}, nil
	}})
	want := "libssl-dev 1.1.1w-0 amd64 0, libssl-dev 1.1.1k-1 amd64 2, libssl1.1 1.1.1w-0 amd64 0, libssl1.1 1.1.1k-1 amd64 2"
	if got := spell(res); got != want || !asked["libssl-dev"] || !asked["libssl1.1"] || asked["unrelated"] {
		t.Errorf("got %s, asked %v", got, asked)
	}
	if dev, lib := res.Packages[1], res.Packages[3]; dev.Archive != "debian-bullseye-2" || lib.Archive != "" || lib.Path != "" || lib.Proof != lock.Repacked {
		t.Errorf("got %+v and %+v", dev, lib)
	}
}

// An archive that can't be read is said to be missing, and what it had last stands in for
// what it has today.
func TestOffersProblems(t *testing.T) {
	key := newKey(t, 0)
	good := newRepo(t, key, maker)
	broken := false
	srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		data, ok := good.files[strings.TrimPrefix(r.URL.Path, "/debian/")]
		if broken || !ok {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		w.Write(data)
	})
	var n notes
	h := hostWith(t, srv.URL+"/debian/", key)
	h.write(t, "etc/apt/sources.list.d/a.sources", []byte("Types: deb\nURIs: http://127.0.0.1:1/debian\nSuites: bullseye\nComponents: main\n\n"+
		"Types: deb\nEnabled: no\nURIs: http://127.0.0.1:1/off\nSuites: bullseye\nComponents: main\n\n"+
		"Types: deb\nURIs: file:/srv/repo\nSuites: bullseye\nComponents: main\n\n"+
		"Types: deb\nURIs: http://127.0.0.1:1/unsigned\nSuites: bullseye\nComponents: main\nTrusted: yes\n"))
	d := Debian{Host: h, Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	d.Fetch.Attempts = 1
	res := offers(t, d, OfferOptions{})
	if got := spell(res); got != "make 4.3-4 amd64 0" || len(res.Problems) != 3 {
		t.Errorf("got %s, problems %v", got, res.Problems)
	}
	broken = true
	res = offers(t, d, OfferOptions{})
	if got := spell(res); got != "make 4.3-4 amd64 0" || len(res.Problems) != 4 || !res.Problems[1].Broken ||
		!strings.Contains(res.Problems[1].Error(), "its index of 2021-08-14 takes the place") {
		t.Errorf("got %s, problems %v", got, res.Problems)
	}
	d.Store = newStore(t)
	if res := offers(t, d, OfferOptions{}); len(res.Packages) != 0 || len(res.Problems) != 4 {
		t.Errorf("got %s, problems %v", spell(res), res.Problems)
	}
}

// A root without keyrings is helped by this machine's, for the keys alone that the lock
// recorded.
func TestOffersKeysOfMachine(t *testing.T) {
	key, stranger := newKey(t, 0), newKey(t, 0)
	r := newRepo(t, key, maker)
	srv := serve(t, r.files)
	root, machine := newHost(t), newHost(t)
	root.write(t, "etc/apt/sources.list", []byte("deb [signed-by=/usr/share/keyrings/gone.gpg] "+srv.URL+"/debian bullseye main\n"))
	machine.write(t, "usr/share/keyrings/archive.gpg", publicKey(t, key))
	l := &lock.Lock{Archives: []lock.Archive{{Name: "debian-bullseye", URI: srv.URL + "/debian", Suite: "bullseye",
		InRelease: digest.FromBytes(r.files["dists/bullseye/InRelease"]), SignedBy: []string{fingerprint(key)}, Dated: written}}}
	var n notes
	d := Debian{Host: root, Store: newStore(t), Architecture: "amd64", Previous: l, Fetch: quick(&n)}
	if res := offers(t, d, OfferOptions{Machine: machine}); spell(res) != "make 4.3-4 amd64 0" {
		t.Errorf("got %s, problems %v", spell(res), res.Problems)
	}
	d.Previous = &lock.Lock{Archives: []lock.Archive{{Name: "debian-bullseye", URI: srv.URL + "/debian", Suite: "bullseye",
		InRelease: digest.FromString("x"), SignedBy: []string{fingerprint(stranger)}, Dated: written}}}
	d.Store = newStore(t)
	if res := offers(t, d, OfferOptions{Machine: machine}); len(res.Packages) != 0 {
		t.Errorf("by a key that nobody recorded: %s", spell(res))
	}
}

// Indexes that aren't what was signed, or have fields beyond all measure, offer nothing of
// that.
func TestOffersHostile(t *testing.T) {
	key := newKey(t, 0)
	long := newDeb("long", "1", "amd64").says("Depends: " + strings.Repeat("a, ", maxRelation/2))
	folded := newDeb("folded", "1", "amd64").says("Depends: a" + strings.Repeat(",\n "+strings.Repeat("b", 1000), 300))
	name := newDeb("name", strings.Repeat("1", maxValue+1), "amd64")
	wide := newDeb("wide", "1", "amd64").says("Provides: " + strings.Repeat("a, ", 20000))
	good := newRepo(t, key, maker, long, folded, name, wide)
	var n notes
	d := Debian{Host: hostWith(t, serve(t, good.files).URL+"/debian/", key), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	if res := offers(t, d, OfferOptions{}); spell(res) != "make 4.3-4 amd64 0, wide 1 amd64 0" || len(res.Packages[1].Provides) != 59999 {
		t.Errorf("got %s", spell(res))
	}
	if !strings.Contains(n.String(), "long 1 of debian-bullseye isn't offered") {
		t.Errorf("notes %s", &n)
	}
	for what, spoil := range map[string]func([]byte) []byte{
		"cut off": func(b []byte) []byte { return b[:len(b)/2] },
		"others":  func(b []byte) []byte { return append(b[:len(b)-1:len(b)-1], b[len(b)-1]^1) },
	} {
		files := maps.Clone(good.files)
		for name, data := range files {
			if strings.Contains(name, "binary-amd64") {
				files[name] = spoil(data)
			}
		}
		d.Host, d.Store = hostWith(t, serve(t, files).URL+"/debian/", key), newStore(t)
		if res := offers(t, d, OfferOptions{}); len(res.Packages) != 0 || len(res.Problems) == 0 {
			t.Errorf("%s: got %s, problems %v", what, spell(res), res.Problems)
		}
	}
}
