package archive

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// offer puts package files into a folder, under the names that they have in an archive.
func offer(t *testing.T, debs ...deb) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range debs {
		if err := os.MkdirAll(filepath.Join(dir, "some/where"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "some/where", d.names()[0]), d.content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A file that its archive names and has no more comes out of a pool; one that no
// archive names is there to be proved.
func TestPool(t *testing.T) {
	key := newKey(t, 0)
	r := newRepo(t, key, bash, libfoo).build(t)
	for name := range r.files {
		if strings.HasSuffix(name, ".deb") {
			delete(r.files, name)
		}
	}
	srv := serve(t, r.files)
	local := newDeb("site-app", "1:1.0", "amd64")
	dir := offer(t, bash, libfoo, local)
	web := serveFunc(t, func(w http.ResponseWriter, q *http.Request) {
		http.ServeFile(w, q, filepath.Join(dir, "some/where", filepath.Base(q.URL.Path)))
	})
	for _, place := range []string{dir, web.URL + "/"} {
		pool, err := OpenPool(place)
		if err != nil {
			t.Fatal(err)
		}
		var n notes
		st := newStore(t)
		d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: st, Fetch: quick(&n), Pools: []Pool{pool}}
		res := locate(t, d, bash.Want, libfoo.Want, local.Want)
		var files []File
		for _, c := range res.Candidates {
			if c.Name == "site-app" && c.Archive.Name != "" {
				t.Errorf("an archive vouches for %+v", c)
			}
			files = append(files, c.File())
		}
		if err := Fetch(t.Context(), st, files, quick(&n)); err != nil {
			t.Fatal(err)
		}
		want := []deb{bash, libfoo}
		if place == dir {
			want = append(want, local) // an address can't be listed
		}
		if len(res.Candidates) != len(want) {
			t.Errorf("%s: candidates are %s", place, names(res))
		}
		for _, w := range want {
			if !st.HasBlob(sha(w.content)) {
				t.Errorf("%s: %s didn't come: %s", place, w.Name, &n)
			}
		}
	}
}

func TestPoolIsNone(t *testing.T) {
	for place, want := range map[string]string{t.TempDir(): "no package file", "/none/such": "no such file"} {
		if _, err := OpenPool(place); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", place, err)
		}
	}
}
