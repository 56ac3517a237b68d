package archive

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/stead-env/stead/envs/archive/archivetest"
	"github.com/stead-env/stead/envs/lock"
)

// history is what the snapshots of a small Debian hold: a release, an update of it,
// and what came and went beside it. The host has the first versions.
type history struct {
	*archivetest.Snapshots
	trees                        []map[string][]byte
	key                          *openpgp.Entity
	bash, tzdata, lib, pool, sid deb
	security                     deb
}

func on(date string) time.Time {
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		panic(err)
	}
	return at
}

func newHistory(t *testing.T) *history {
	h := &history{Snapshots: archivetest.NewSnapshots(),
		key:      newKey(t, 2*365*day), // good at the time, and expired long ago
		bash:     newDeb("bash", "5.1-2", "amd64"),
		tzdata:   newDeb("tzdata", "2021a-0", "all"),
		lib:      newDeb("libfoo", "1:2.0~rc1+b1", "i386"),
		pool:     newDeb("never-listed", "1.0", "amd64"),
		sid:      newDeb("brief", "3.0-1", "amd64"),
		security: newDeb("openssl", "1.1.1k-1+deb11u1", "amd64"),
	}
	suite := func(name string, debs ...deb) *repo {
		r := &repo{suite: name, endings: []string{".xz"}, key: h.key, debs: debs,
			extra: "Valid-Until: " + written.AddDate(0, 0, 7).Format(time.RFC1123) + "\n"}
		return r.build(t)
	}
	at := func(archive string, at time.Time, suites ...*repo) {
		files := map[string][]byte{}
		for _, r := range suites {
			maps.Copy(files, r.files)
			for _, d := range r.debs {
				h.Has(archive, at, d.inPool())
			}
		}
		h.At(archive, at, files)
		h.trees = append(h.trees, files)
	}
	newer := newDeb("bash", "5.1-2+deb11u1", "amd64")
	h.Has("debian", on("2021-02-01").Add(4*time.Hour), h.pool.inPool())
	at("debian", on("2021-02-02"), suite("sid", h.sid, h.bash), suite("bullseye"))
	at("debian", on("2021-02-04"), suite("sid", h.bash), suite("bullseye"))
	at("debian", on("2021-03-01"), suite("bullseye", h.bash, h.tzdata, h.lib))
	at("debian", on("2021-09-01"), suite("bullseye", newer))
	at("debian-security", on("2021-03-05"), suite("bullseye-security"))
	at("debian-security", on("2021-03-07").Add(7*time.Hour), suite("bullseye-security", h.security))
	at("debian-security", on("2021-04-01"), suite("bullseye-security"))
	return h
}

func (d deb) inPool() archivetest.Package {
	return archivetest.Package{Name: d.Name, Version: d.Version, Architecture: d.Architecture, Path: d.path(), Content: d.content}
}

// oldHost has sources, a key, and the times at which its packages were installed.
func oldHost(t *testing.T, h *history) *folder {
	f := newHost(t)
	f.write(t, "etc/apt/trusted.gpg", publicKey(t, h.key))
	f.write(t, "etc/apt/sources.list", []byte("deb http://gone.mirror.example/debian bullseye main\n"+
		"deb http://gone.mirror.example/debian-security bullseye-security main\n"))
	for name, date := range map[string]string{"bash": "2021-03-03", "tzdata": "2021-03-03", "libfoo:i386": "2021-03-03",
		"openssl": "2021-03-08", "never-listed": "2021-03-03", "brief": "2021-05-01"} {
		path := "var/lib/dpkg/info/" + name + ".list"
		f.write(t, path, nil)
		if err := os.Chtimes(f.dir+"/"+path, on(date), on(date)); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// Old versions are found by name and version, proved by the index of an instant at
// which they were current, and by SHA-1 where no index names them.
func TestOldVersions(t *testing.T) {
	h := newHistory(t)
	srv := serveFunc(t, h.ServeHTTP)
	var n notes
	st := newStore(t)
	d := Debian{Host: oldHost(t, h), Store: st, Snapshots: []string{srv.URL}, Fetch: quick(&n)}
	d.Fetch.Client = withoutArchives(srv)
	all := []deb{h.bash, h.tzdata, h.lib, h.pool, h.sid, h.security}
	want := []Want{unknown}
	for _, p := range all {
		want = append(want, p.Want)
	}
	res := locate(t, d, want...)
	found := map[string]Candidate{}
	for _, c := range res.Candidates {
		found[c.Name] = c
	}
	for _, tt := range []struct {
		deb
		tree, suite string
	}{
		{h.bash, "debian/20210301T000000Z", "bullseye"},
		{h.tzdata, "debian/20210301T000000Z", "bullseye"},
		{h.lib, "debian/20210301T000000Z", "bullseye"},
		{h.sid, "debian/20210202T000000Z", "sid"},
		{h.security, "debian-security/20210307T070000Z", "bullseye-security"},
	} {
		c := found[tt.Name]
		if c.SHA256 != tt.sum() || c.Archive.URI != srv.URL+"/archive/"+tt.tree || c.Archive.Suite != tt.suite ||
			c.Path != tt.path() || !c.Snapshot || !st.HasBlob(c.Archive.InRelease) || !c.Archive.Dated.Equal(written) ||
			len(c.Archive.SignedBy) != 1 || c.Archive.SignedBy[0] != fingerprint(h.key) {
			t.Errorf("%s: got %+v", tt.Name, c)
		}
		if !IsSnapshot(c.Archive, c.Path) || len(c.URLs) != 2 || c.URLs[0] != URLs(c.Archive, c.Path, nil)[0] {
			t.Errorf("%s: addresses are %v", tt.Name, c.URLs)
		}
	}
	c := found["never-listed"]
	if c.Archive.Name != "" || c.SHA256 != h.pool.sum() || !st.HasBlob(c.Digest()) {
		t.Errorf("what no index lists is %+v", c)
	}
	if len(res.Candidates) != len(all) || len(res.Archives) != 3 {
		t.Errorf("got %s in %+v", names(res), res.Archives)
	}
	if got := srv.count("20210301T000000Z/dists/bullseye/main"); got != 3 { // amd64, i386, all
		t.Errorf("%d indexes were asked for", got)
	}
	fetchBoth(t, res.Candidates)
	// All was kept: nothing is asked again, but what wasn't found and may come.
	asked := srv.count("")
	again := locate(t, d, want...)
	if names(again) != names(res) || srv.count("") != asked {
		t.Errorf("again: %s, after %d more requests", names(again), srv.count("")-asked)
	}
}

// fetchBoth fetches by each address, in a tree and by SHA-1.
func fetchBoth(t *testing.T, cands []Candidate) {
	t.Helper()
	for _, i := range []int{0, 1} {
		var files []File
		for _, c := range cands {
			f := c.File()
			f.URLs = f.URLs[min(i, len(f.URLs)-1):][:1]
			files = append(files, f)
		}
		if err := Fetch(t.Context(), newStore(t), files, FetchOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// Where there is no host to compare a file with, only an index's word counts; and what
// may be of either architecture is asked for once.
func TestOldVersionsIndexed(t *testing.T) {
	h := newHistory(t)
	srv := serveFunc(t, h.ServeHTTP)
	var n notes
	d := Debian{Host: oldHost(t, h), Store: newStore(t), Snapshots: []string{srv.URL}, Indexed: true, Fetch: quick(&n)}
	d.Fetch.Client = withoutArchives(srv)
	var want []Want
	for _, p := range []deb{h.pool, h.bash, h.tzdata} {
		want = append(want, Want{p.Name, p.Version, "amd64"}, Want{p.Name, p.Version, "all"})
	}
	res := locate(t, d, want...)
	if len(res.Candidates) != 2 || res.Candidates[0].Want != h.bash.Want || res.Candidates[1].Want != h.tzdata.Want {
		t.Errorf("got %+v", res.Candidates)
	}
	if got := srv.count("/mr/binary/"); got != 3 {
		t.Errorf("%d look-ups for three packages", got)
	}
	if srv.count("/file/") != 0 {
		t.Error("a file was fetched that nothing vouches for")
	}
}

// withoutArchives is a client that reaches only one server.
func withoutArchives(srv *server) *http.Client {
	return &http.Client{Transport: only{strings.TrimPrefix(srv.URL, "http://")}}
}

type only struct{ host string }

func (o only) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != o.host {
		return &http.Response{StatusCode: http.StatusNotFound, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}

// What a snapshot archive says isn't believed where no key that the host trusts has
// signed it; other bytes than those of the SHA-1 aren't taken at all.
func TestOldVersionsRefused(t *testing.T) {
	for name, change := range map[string]func(h *history, f *folder){
		"another key": func(h *history, f *folder) { f.write(t, "etc/apt/trusted.gpg", publicKey(t, newKey(t, 0))) },
		"an altered index": func(h *history, f *folder) {
			for _, files := range h.trees {
				for name, data := range files {
					if strings.Contains(name, "Packages") {
						files[name] = append(bytes.Clone(data), 0)
					}
				}
			}
		},
		"no sources": func(h *history, f *folder) { f.write(t, "etc/apt/sources.list", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t)
			f := oldHost(t, h)
			change(h, f)
			srv := serveFunc(t, h.ServeHTTP)
			var n notes
			d := Debian{Host: f, Store: newStore(t), Snapshots: []string{srv.URL}, Fetch: quick(&n)}
			d.Fetch.Client = withoutArchives(srv)
			res := locate(t, d, h.bash.Want)
			if len(res.Candidates) != 1 || res.Candidates[0].Archive.Name != "" || res.Candidates[0].SHA256 != h.bash.sum() {
				t.Errorf("got %+v", res.Candidates)
			}
			h.Spoil()
			d.Store = newStore(t)
			res = locate(t, d, h.bash.Want)
			if len(res.Candidates) != 0 || !strings.Contains(fmt.Sprint(res.Problems), "its bytes are others") {
				t.Errorf("got %+v; problems %v", res.Candidates, res.Problems)
			}
		})
	}
}

// A file that the host's own index names, and its archive has dropped, is had from
// the snapshots, with the proof that the host has.
func TestInSnapshots(t *testing.T) {
	h := newHistory(t)
	srv := serveFunc(t, h.ServeHTTP)
	f := oldHost(t, h)
	r := newRepo(t, h.key, h.bash, h.tzdata)
	f.write(t, listsDir+"/gone.mirror.example_debian_dists_bullseye_InRelease", r.files["dists/bullseye/InRelease"])
	f.write(t, listsDir+"/gone.mirror.example_debian_dists_bullseye_main_binary-amd64_Packages", []byte(h.bash.stanza()))
	f.write(t, listsDir+"/gone.mirror.example_debian_dists_bullseye_main_binary-all_Packages", []byte(h.tzdata.stanza()))
	var n notes
	st := newStore(t)
	d := Debian{Host: f, Store: st, Snapshots: []string{srv.URL}, Fetch: quick(&n), Architecture: "amd64"}
	d.Fetch.Client = withoutArchives(srv)
	res := locate(t, d, h.bash.Want, h.tzdata.Want)
	if len(res.Candidates) != 2 || srv.count("") != 0 {
		t.Fatalf("got %s after %d requests", names(res), srv.count(""))
	}
	wrong := res.Candidates[1]
	wrong.Want, wrong.SHA256 = h.lib.Want, strings.Repeat("0", 64)
	wrong.Size = int64(len(h.lib.content))
	moved, err := d.InSnapshots(t.Context(), append(res.Candidates, wrong), res.Archives)
	if err != nil {
		t.Fatal(err)
	}
	if len(moved.Candidates) != 2 || len(moved.Archives) != 1 {
		t.Fatalf("got %+v; notes %s", moved, &n)
	}
	for i, c := range moved.Candidates {
		a := c.Archive
		if c.SHA256 != res.Candidates[i].SHA256 || a.InRelease != res.Archives[0].InRelease || a.Name == res.Archives[0].Name ||
			a.URI != srv.URL || !IsSnapshot(a, c.Path) || !st.HasBlob(c.Digest()) {
			t.Errorf("got %+v", c)
		}
		other := newStore(t)
		file := c.File()
		file.URLs = URLs(a, c.Path, nil) // as whoever has the lock asks for it
		if err := Fetch(t.Context(), other, []File{file}, quick(&n)); err != nil {
			t.Error(err)
		}
	}
}

// Whoever has a lock finds what its archive has dropped since.
func TestSnapshotTrees(t *testing.T) {
	h := newHistory(t)
	srv := serveFunc(t, h.ServeHTTP)
	a := lock.Archive{Name: "debian-bullseye", URI: "http://mirror.example/debian", Suite: "bullseye", Dated: on("2021-02-28")}
	file := File{Name: "bash", Digest: sha(h.bash.content), Size: int64(len(h.bash.content)),
		URLs: SnapshotTrees(a, []string{srv.URL})}
	for i := range file.URLs {
		file.URLs[i] += "/" + h.bash.path()
	}
	if err := Fetch(t.Context(), newStore(t), []File{file}, FetchOptions{}); err != nil {
		t.Error(err)
	}
	for _, none := range []lock.Archive{
		{Name: "tools", URI: "http://mirror.example/debian", Dated: written},
		{Name: "debian-bullseye", URI: "http://mirror.example/", Dated: written},
		{Name: "debian-bullseye", URI: srv.URL + "/archive/debian/20210301T000000Z", Dated: written},
	} {
		if got := SnapshotTrees(none, []string{srv.URL}); len(got) != 0 {
			t.Errorf("%+v: %v", none, got)
		}
	}
}

func TestCover(t *testing.T) {
	var spans []span
	for _, days := range [][2]int{{1, 10}, {2, 9}, {3, 12}, {11, 20}, {12, 13}, {30, 30}} {
		spans = append(spans, span{from: written.AddDate(0, 0, days[0]), to: written.AddDate(0, 0, days[1])})
	}
	got := ""
	for _, at := range cover(spans) {
		got += fmt.Sprint(int(at.Sub(written)/day), " ")
	}
	if got != "9 13 30 " {
		t.Errorf("covered by %s", got)
	}
}

func TestCheckSnapshots(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://snapshot.mirror.example": true, "http://mirror.example/snapshot/": true,
		"https://user:pa55@mirror.example": false, "file:///srv": false, "snapshot.mirror.example": false,
		"https://mirror.example/?a=b": false, "https://": false, "": false,
	} {
		err := CheckSnapshots(address)
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "pa55") {
			t.Errorf("a password is told: %v", err)
		}
	}
}

func FuzzSnapshotAnswer(f *testing.F) {
	f.Add([]byte(`{"result": [{"hash": "4955b5f663b9dccc84d7c264da9c483330ed3fdf", "architecture": "amd64"}], "fileinfo":
		{"4955b5f663b9dccc84d7c264da9c483330ed3fdf": [{"archive_name": "debian", "size": 5, "first_seen": "20210301T000000Z", "name": "a"}]}}`))
	f.Add([]byte(`{"result": {"debian": ["20210301T000000Z", "x"]}}`))
	f.Add([]byte(`{"result": []}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := parseBinfiles(data, "amd64")
		if err != nil && files != nil || len(files) > maxHits {
			t.Errorf("%d files and %v", len(files), err)
		}
		for _, o := range files {
			if !isSHA1(o.sha1) || o.size <= 0 || o.size > maxPackage || len(o.places) == 0 || len(o.places) > maxHits {
				t.Errorf("file %+v", o)
			}
			for _, p := range o.places {
				if strings.Contains(p.archive, "/") || p.first.IsZero() && p.first.Year() != 1 {
					t.Errorf("place %+v", p)
				}
			}
		}
		all, _ := parseInstants(data, "debian")
		for i := range all {
			if i > 0 && all[i].Before(all[i-1]) {
				t.Error("instants out of order")
			}
		}
	})
}
