package archive

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/stead-env/stead/envs/lock"
)

var (
	bash    = newDeb("bash", "5.1-2+deb11u1", "amd64")
	tzdata  = newDeb("tzdata", "2021a-1", "all")
	libfoo  = newDeb("libfoo", "1:2.0~rc1", "i386")
	unknown = Want{"site-app", "1.0", "amd64"}
)

// onHost makes a host that has a source and its key.
func hostWith(t *testing.T, uri string, key *openpgp.Entity) *folder {
	t.Helper()
	h := newHost(t)
	h.write(t, "etc/apt/sources.list", []byte("deb "+uri+" bullseye main\n"))
	if key != nil {
		h.write(t, "etc/apt/trusted.gpg.d/archive.gpg", publicKey(t, key))
	}
	return h
}

func quick(n *notes) FetchOptions {
	return FetchOptions{Attempts: 3, Backoff: time.Millisecond, Stall: time.Minute, Progress: n.progress}
}

func locate(t *testing.T, d Debian, want ...Want) *Result {
	t.Helper()
	d.Architecture = "amd64"
	res, err := d.Locate(context.Background(), want)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func names(res *Result) string {
	var out []string
	for _, c := range res.Candidates {
		out = append(out, c.Name+"@"+c.Archive.Name)
	}
	return strings.Join(out, " ")
}

func TestLocateInCurrentIndex(t *testing.T) {
	key := newKey(t, 0)
	for _, ending := range []string{".xz", ".gz", ".zst", ".lz4"} {
		t.Run(ending, func(t *testing.T) {
			r := newRepo(t, key, bash, tzdata)
			r.endings = []string{ending}
			r.extra = "Acquire-By-Hash: yes\nValid-Until: " + written.AddDate(0, 0, 7).Format(time.RFC1123) + "\n"
			srv := serve(t, r.build(t).files)
			var n notes
			st := newStore(t)
			uri := strings.Replace(srv.URL, "://", "://user:pa55@", 1) + "/debian/"
			d := Debian{Host: hostWith(t, uri, key), Store: st, Fetch: quick(&n)}
			res := locate(t, d, bash.Want, tzdata.Want, unknown)
			if got := names(res); got != "bash@debian-bullseye tzdata@debian-bullseye" && got != "tzdata@debian-bullseye bash@debian-bullseye" {
				t.Fatalf("got %q; problems %v; notes %s", got, res.Problems, &n)
			}
			a := res.Archives[0]
			if a.URI != srv.URL+"/debian" || a.Suite != "bullseye" || !a.Dated.Equal(written) || len(a.SignedBy) != 1 || a.SignedBy[0] != fingerprint(key) {
				t.Errorf("archive is %+v", a)
			}
			if strings.Contains(n.String(), "pa55") {
				t.Error("a password was noted")
			}
			if !strings.Contains(n.String(), "was valid until") {
				t.Error("nothing was said of Valid-Until")
			}
			if !st.HasBlob(a.InRelease) || a.InRelease != sha(r.files["dists/bullseye/InRelease"]) {
				t.Error("the InRelease was not kept")
			}
			if srv.count("by-hash") == 0 {
				t.Error("by-hash was not used")
			}
			before := srv.count("by-hash")
			locate(t, d, bash.Want)
			if srv.count("by-hash") != before {
				t.Error("an index was fetched twice")
			}
			var files []File
			for _, c := range res.Candidates {
				files = append(files, c.File())
			}
			if err := Fetch(context.Background(), st, files, quick(&n)); err != nil {
				t.Fatal(err)
			}
			if !st.HasBlob(sha(bash.content)) || !st.HasBlob(sha(tzdata.content)) {
				t.Error("the files did not come")
			}
		})
	}
}

func TestLocateOnHost(t *testing.T) {
	key := newKey(t, 0)
	for _, ending := range []string{"", ".lz4", ".gz", ".xz", ".zst"} {
		t.Run("lists"+ending, func(t *testing.T) {
			r := newRepo(t, key, bash, tzdata, libfoo)
			h := hostWith(t, "http://mirror.example/debian", nil)
			// as on hosts that keep the keyring elsewhere, behind links
			h.write(t, "etc/apt/sources.list", []byte("deb [signed-by=/usr/share/keyrings/a.gpg] http://mirror.example/debian bullseye main\n"))
			h.write(t, "usr/share/keys/real.gpg", publicKey(t, key))
			h.link(t, "usr/share/keyrings/a.gpg", "/usr/share/links/../keys/real.gpg")
			h.write(t, "usr/share/links/x", nil)
			h.link(t, "var/lib/apt", "/srv/apt")
			h.write(t, "srv/apt/lists/mirror.example_debian_dists_bullseye_InRelease", r.files["dists/bullseye/InRelease"])
			index := bash.stanza()
			h.write(t, "srv/apt/lists/mirror.example_debian_dists_bullseye_main_binary-amd64_Packages"+ending, compress(t, ending, []byte(index)))
			h.write(t, "srv/apt/lists/mirror.example_debian_dists_bullseye_main_binary-i386_Packages"+ending, compress(t, ending, []byte(libfoo.stanza())))
			var n notes
			res := locate(t, Debian{Host: h, Store: newStore(t), Offline: true, Fetch: quick(&n)}, bash.Want, libfoo.Want)
			if got := names(res); got != "bash@debian-bullseye libfoo@debian-bullseye" {
				t.Fatalf("got %q; problems %v; notes %s", got, res.Problems, &n)
			}
			c := res.Candidates[1]
			if c.URLs[0] != "http://mirror.example/debian/pool/main/l/libfoo/libfoo_1%253a2.0~rc1_i386.deb" {
				t.Errorf("url is %s", c.URLs[0])
			}
		})
	}
}

// refused is what must not be believed. The host trusts the key that the
// archive signs with, and not the other one.
var refused = []struct {
	name   string
	change func(t *testing.T, r *repo, h *folder, other *openpgp.Entity)
	why    string
}{
	{"unsigned", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		r.files["dists/bullseye/InRelease"] = r.files["dists/bullseye/Release"]
	}, "it is not signed"},
	{"another key", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) { r.key = other; r.build(t) }, "no key that the host trusts"},
	{"no keyring", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		os.RemoveAll(h.dir + "/etc/apt/trusted.gpg.d")
	}, "no key of the archive is on the host"},
	{"other fingerprint", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		h.write(t, "etc/apt/sources.list", bytes.Replace(read(t, h, "etc/apt/sources.list"), []byte("deb "),
			[]byte("deb [signed-by="+fingerprint(other)+"] "), 1))
	}, "no key"},
	{"altered", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		r.files["dists/bullseye/InRelease"] = bytes.Replace(r.files["dists/bullseye/InRelease"], []byte("Suite: stable"), []byte("Suite: unstab"), 1)
	}, "checking its signature"},
	{"text before the signed part", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		r.files["dists/bullseye/InRelease"] = append([]byte("Origin: x\n"), r.files["dists/bullseye/InRelease"]...)
	}, "its InRelease"},
	{"wrong hash", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		for name := range r.files {
			if strings.Contains(name, "Packages") {
				r.files[name] = compress(t, name[strings.LastIndex(name, "."):], []byte(strings.Replace(bash.stanza(), "SHA256: ", "SHA256: ", 1)+tzdata.stanza()))
			}
		}
	}, "it has more than the"},
	{"key that had expired", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		r.key = newKey(t, 100*24*time.Hour)
		h.write(t, "etc/apt/trusted.gpg.d/archive.gpg", publicKey(t, r.key))
		r.build(t)
	}, "expired"},
	{"trusted=yes", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) {
		h.write(t, "etc/apt/sources.list", bytes.Replace(read(t, h, "etc/apt/sources.list"), []byte("deb "), []byte("deb [trusted=yes] "), 1))
	}, "it proves nothing"},
	{"gone", func(t *testing.T, r *repo, h *folder, other *openpgp.Entity) { clear(r.files) }, "404"},
}

func TestLocateRefuses(t *testing.T) {
	key, other := newKey(t, 0), newKey(t, 0)
	for _, tt := range refused {
		t.Run(tt.name, func(t *testing.T) {
			r := newRepo(t, key, bash)
			files := make(map[string][]byte)
			srv := serve(t, files)
			h := hostWith(t, srv.URL+"/debian", key)
			tt.change(t, r, h, other)
			for k, v := range r.files {
				files[k] = v
			}
			var n notes
			res := locate(t, Debian{Host: h, Store: newStore(t), Fetch: quick(&n)}, bash.Want)
			if len(res.Candidates) != 0 || len(res.Archives) != 0 {
				t.Errorf("it was believed: %+v", res.Candidates)
			}
			if !strings.Contains(n.String(), tt.why) {
				t.Errorf("noted %q, which lacks %q", n.String(), tt.why)
			}
		})
	}
}

func read(t *testing.T, h *folder, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(h.dir + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A list on the host with another content than the signed file says is left aside,
// and the archive is asked.
func TestLocateStaleList(t *testing.T) {
	key := newKey(t, 0)
	r := newRepo(t, key, bash)
	srv := serve(t, r.files)
	h := hostWith(t, srv.URL+"/debian", key)
	base := "var/lib/apt/lists/" + strings.TrimPrefix(srv.URL, "http://") + "_debian_dists_bullseye_"
	h.write(t, base+"InRelease", r.files["dists/bullseye/InRelease"])
	h.write(t, base+"main_binary-amd64_Packages", []byte(strings.ReplaceAll(bash.stanza(), bash.sum(), tzdata.sum())))
	var n notes
	res := locate(t, Debian{Host: h, Store: newStore(t), Fetch: quick(&n)}, bash.Want)
	if len(res.Candidates) != 1 || res.Candidates[0].SHA256 != bash.sum() {
		t.Errorf("got %+v", res.Candidates)
	}
	if len(res.Problems) != 1 || !strings.Contains(res.Problems[0].Error(), errUnlisted.Error()) {
		t.Errorf("problems are %v", res.Problems)
	}
}

func TestKeyGoodAtItsTime(t *testing.T) {
	key := newKey(t, 366*24*time.Hour) // a day beyond the date of the Release
	srv := serve(t, newRepo(t, key, bash).files)
	var n notes
	res := locate(t, Debian{Host: hostWith(t, srv.URL+"/debian", key), Store: newStore(t), Fetch: quick(&n)}, bash.Want)
	if names(res) != "bash@debian-bullseye" {
		t.Errorf("problems are %v", res.Problems)
	}
}

func TestReleaseWithDetachedSignature(t *testing.T) {
	key := newKey(t, 0)
	for _, armored := range []bool{true, false} {
		r := newRepo(t, key, bash)
		var sig bytes.Buffer
		text := bytes.NewReader(r.files["dists/bullseye/Release"])
		err := openpgp.DetachSign(&sig, []*openpgp.Entity{key}, text, atDate())
		if armored {
			text.Seek(0, 0)
			sig.Reset()
			err = openpgp.ArmoredDetachSign(&sig, []*openpgp.Entity{key}, text, &openpgp.SignParams{Config: atDate()})
		}
		if err != nil {
			t.Fatal(err)
		}
		delete(r.files, "dists/bullseye/InRelease")
		r.files["dists/bullseye/Release.gpg"] = sig.Bytes()
		srv := serve(t, r.files)
		var n notes
		res := locate(t, Debian{Host: hostWith(t, srv.URL+"/debian", key), Store: newStore(t), Fetch: quick(&n)}, bash.Want)
		if names(res) != "bash@debian-bullseye" {
			t.Errorf("armored %v: problems are %v", armored, res.Problems)
		}
	}
}

func atDate() *packet.Config { return &packet.Config{Time: func() time.Time { return written }} }

// Mirrors of one suite stand in for each other: the host's own and the caller's.
func TestMirrors(t *testing.T) {
	key := newKey(t, 0)
	r := newRepo(t, key, bash)
	good := serve(t, r.files)
	bad := serveFunc(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusForbidden) })
	for _, own := range []bool{true, false} {
		h := newHost(t)
		h.write(t, "etc/apt/trusted.gpg.d/a.gpg", publicKey(t, key))
		d := Debian{Host: h, Store: newStore(t)}
		uris := bad.URL + "/debian"
		if own {
			uris += " " + good.URL + "/debian"
		} else {
			d.Mirrors = map[string][]string{bad.URL + "/debian": {good.URL + "/debian"}}
		}
		h.write(t, "etc/apt/sources.list.d/a.sources", []byte("Types: deb\nURIs: "+uris+"\nSuites: bullseye\nComponents: main\n"))
		var n notes
		d.Fetch = quick(&n)
		res := locate(t, d, bash.Want)
		if names(res) != "bash@debian-bullseye" {
			t.Fatalf("own %v: problems are %v", own, res.Problems)
		}
		if err := Fetch(context.Background(), d.Store, []File{res.Candidates[0].File()}, d.Fetch); err != nil {
			t.Error(err)
		}
	}
}

func TestPreviousLockComesFirst(t *testing.T) {
	key := newKey(t, 0)
	srv := serve(t, newRepo(t, key, bash, tzdata).files)
	h := hostWith(t, srv.URL+"/debian", key)
	old := lock.Archive{Name: "debian-bullseye", URI: "http://mirror.example/debian", Suite: "bullseye", InRelease: sha([]byte("old"))}
	prev := &lock.Lock{Archives: []lock.Archive{old}, Packages: []lock.Package{
		{Name: "bash", Version: bash.Version, Architecture: "amd64", Archive: old.Name, Path: bash.path(), Size: 1, SHA256: bash.sum(), Proof: lock.Exact},
		{Name: "tzdata", Version: "2020a-1", Architecture: "all", Archive: old.Name, Proof: lock.Exact},
	}}
	var n notes
	d := Debian{Host: h, Store: newStore(t), Previous: prev, Fetch: quick(&n)}
	if res := locate(t, d, bash.Want); names(res) != "bash@debian-bullseye" || len(srv.asked) != 0 || len(h.reads) != 0 {
		t.Errorf("got %s, asked %v, read %v", names(res), srv.asked, h.reads)
	}
	fresh := d
	fresh.Fresh = true
	if res := locate(t, fresh, bash.Want); names(res) != "bash@debian-bullseye-2" {
		t.Errorf("got %s", names(res))
	}
	res := locate(t, d, bash.Want, tzdata.Want)
	if names(res) != "bash@debian-bullseye tzdata@debian-bullseye-2" || len(res.Archives) != 2 {
		t.Errorf("got %s", names(res))
	}
}

// What apt kept on the host is a source of bytes, and vouches for nothing.
func TestCache(t *testing.T) {
	key := newKey(t, 0)
	own := newDeb("site-app", "2:1.0_x", "amd64")
	h := hostWith(t, "http://mirror.example/debian", key)
	r := newRepo(t, key, bash, tzdata)
	h.write(t, "var/lib/apt/lists/mirror.example_debian_dists_bullseye_InRelease", r.files["dists/bullseye/InRelease"])
	h.write(t, "var/lib/apt/lists/mirror.example_debian_dists_bullseye_main_binary-amd64_Packages", []byte(bash.stanza()))
	h.write(t, "var/lib/apt/lists/mirror.example_debian_dists_bullseye_main_binary-all_Packages", []byte(tzdata.stanza()))
	h.write(t, cacheName(own.Want), own.content)
	h.write(t, cacheName(bash.Want), bash.content)
	h.write(t, cacheName(tzdata.Want), bytes.ToUpper(tzdata.content)) // same size, other bytes
	if !strings.HasSuffix(cacheName(own.Want), "/site-app_2%3a1.0%5fx_amd64.deb") {
		t.Errorf("apt has another name than %s", cacheName(own.Want))
	}
	var n notes
	st := newStore(t)
	res := locate(t, Debian{Host: h, Store: st, Offline: true, Fetch: quick(&n)}, bash.Want, tzdata.Want, own.Want)
	if len(res.Candidates) != 3 {
		t.Fatalf("got %s; problems %v", names(res), res.Problems)
	}
	last := res.Candidates[2]
	if last.Want != own.Want || last.Archive.Name != "" || last.SHA256 != own.sum() || !st.HasBlob(last.Digest()) {
		t.Errorf("the unproved file is %+v", last)
	}
	if err := FromHost(context.Background(), h, st, res.Candidates, n.progress); err != nil {
		t.Fatal(err)
	}
	if !st.HasBlob(sha(bash.content)) || st.HasBlob(sha(tzdata.content)) || st.HasBlob(sha(bytes.ToUpper(tzdata.content))) {
		t.Error("the wrong files were taken from the host")
	}
	if !strings.Contains(n.String(), "is not the file that its archive has") {
		t.Errorf("notes are %s", &n)
	}
}

// An archive in the host's own file system has no address for others.
func TestFileArchive(t *testing.T) {
	key := newKey(t, 0)
	r := newRepo(t, key, bash)
	h := hostWith(t, "file:/srv/repo", key)
	for name, data := range r.files {
		h.write(t, "mnt/disk/"+name, data)
	}
	h.link(t, "srv/repo", "../mnt/disk")
	var n notes
	st := newStore(t)
	res := locate(t, Debian{Host: h, Store: st, Offline: true, Fetch: quick(&n)}, bash.Want)
	if names(res) != "bash@debian-bullseye" || len(res.Candidates[0].URLs) != 0 {
		t.Fatalf("got %s %+v; problems %v", names(res), res.Candidates, res.Problems)
	}
	if err := FromHost(context.Background(), h, st, res.Candidates, nil); err != nil || !st.HasBlob(sha(bash.content)) {
		t.Errorf("copying: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	key := newKey(t, 0)
	srv := serve(t, nil)
	uri := srv.URL + "/debian"
	srv.Close()
	var n notes
	res := locate(t, Debian{Host: hostWith(t, uri, key), Store: newStore(t), Fetch: quick(&n)}, bash.Want)
	if len(res.Problems) != 1 || !strings.Contains(res.Problems[0].Error(), "connection refused") || res.Problems[0].URI != uri {
		t.Errorf("problems are %v", res.Problems)
	}
}
