package archive

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

const contentsText = `This is a free text that older archives have.

FILE                                                    LOCATION
bin/ls                                                  utils/coreutils
usr/bin/cmake                                           devel/cmake,universe/devel/cmake-mozilla
usr/bin/cmake-gui                                       devel/cmake-qt-gui
usr/bin/c make                                          devel/blank
usr/lib/x86_64-linux-gnu/pkgconfig/openssl.pc           libdevel/libssl-dev
usr/lib/x86_64-linux-gnu/pkgconfig/openssl.pc.in        libdevel/wrong
usr/share/pkgconfig/openssl.pc	contrib/libdevel/other-dev
pkgconfig/openssl.pc                                    misc/top
usr/share/doc/usr/bin/cmake                             doc/cmake-doc
usr/bin/nameless                                        devel/
usr/bin/alone`

// withContents adds an index of files to a test archive.
func withContents(t *testing.T, r *repo, name, text string) *repo {
	t.Helper()
	plain, packed := []byte(text), compress(t, ".gz", []byte(text))
	release := string(r.files["dists/"+r.suite+"/Release"])
	release += fmt.Sprintf(" %x %d %s\n %x %d %s.gz\n", sha256.Sum256(plain), len(plain), name, sha256.Sum256(packed), len(packed), name)
	r.files["dists/"+r.suite+"/Release"] = []byte(release)
	r.files["dists/"+r.suite+"/InRelease"] = clearSign(t, r.key, release)
	r.files["dists/"+r.suite+"/"+name+".gz"] = packed
	return r
}

func TestShipping(t *testing.T) {
	key := newKey(t, 0)
	r := withContents(t, withContents(t, newRepo(t, key), "main/Contents-amd64", contentsText), "main/Contents-all",
		"usr/share/aclocal/x.m4  devel/x-common\nusr/bin/cmake  all/cmake-all\n")
	srv := serve(t, r.files)
	var n notes
	d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	ask := []string{"/usr/bin/cmake", "*/pkgconfig/openssl.pc", "usr/bin/c make", "/bin/ls", "usr/bin/ls", "usr/bin/nameless",
		"usr/bin/alone", "*/x.m4", "usr/bin/nothing"}
	want := map[string]string{"/usr/bin/cmake": "cmake cmake-all cmake-mozilla", "*/pkgconfig/openssl.pc": "libssl-dev other-dev",
		"usr/bin/c make": "blank", "/bin/ls": "coreutils", "*/x.m4": "x-common"}
	check := func(what string) {
		t.Helper()
		res, err := d.Shipping(t.Context(), ask, OfferOptions{})
		if err != nil || len(res.Problems) > 0 {
			t.Fatalf("%s: %v, problems %v", what, err, res.Problems)
		}
		for _, p := range ask {
			if got := strings.Join(res.Packages[p], " "); got != want[p] {
				t.Errorf("%s: %s is shipped by %q, not by %q", what, p, got, want[p])
			}
		}
	}
	check("first")
	asked := srv.count("Contents")
	for _, l := range []string{"main/Contents-amd64.gz", "main/Contents-all.gz"} { // answers are kept, so nobody reads it again
		if err := d.Store.DropBlob(sha(r.files["dists/bullseye/"+l])); err != nil {
			t.Fatal(err)
		}
	}
	check("again")
	d.Offline = true
	check("offline")
	if srv.count("Contents") != asked {
		t.Error("an index was fetched twice")
	}
	d.Offline = false
	root := d.Host.(*folder)
	root.write(t, "usr/bin/x", nil)
	root.link(t, "bin", "usr/bin")
	want["usr/bin/ls"] = "coreutils"
	check("where /bin is a link")
}

// Indexes that can't be read, or aren't what was signed, answer nothing and are told.
func TestShippingProblems(t *testing.T) {
	key := newKey(t, 0)
	good := withContents(t, newRepo(t, key), "main/Contents-amd64", contentsText)
	spoiled := compress(t, ".gz", []byte(strings.Replace(contentsText, "devel/cmake,", "devel/other,", 1)))
	for what, serve := range map[string]func(w http.ResponseWriter){
		"gone":    func(w http.ResponseWriter) { http.Error(w, "no", http.StatusNotFound) },
		"others":  func(w http.ResponseWriter) { w.Write(spoiled) },
		"cut off": func(w http.ResponseWriter) { w.Write(spoiled[:len(spoiled)/2]) },
	} {
		srv := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "Contents") {
				serve(w)
				return
			}
			w.Write(good.files[strings.TrimPrefix(r.URL.Path, "/debian/")])
		})
		var n notes
		d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
		res, err := d.Shipping(t.Context(), []string{"usr/bin/cmake"}, OfferOptions{})
		if err != nil || len(res.Packages["usr/bin/cmake"]) > 0 || len(res.Problems) != 1 {
			t.Errorf("%s: %v, %v", what, res, err)
		}
	}
	srv := serve(t, newRepo(t, key).files)
	d := Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Architecture: "amd64"}
	if res, err := d.Shipping(t.Context(), []string{"usr/bin/cmake"}, OfferOptions{}); err != nil || len(res.Problems) != 1 {
		t.Errorf("without an index of files: %v, %v", res, err)
	}
	for _, p := range []string{"", "/", "usr/", "../x", "*/", "usr/*/x", "*/a*", "a\nb"} {
		if _, err := d.Shipping(t.Context(), []string{p}, OfferOptions{}); !errors.As(err, new(*NoPatternError)) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// Lines across the blocks that are read are found, and one that is longer than a block is
// passed over.
func TestScanContentsBlocks(t *testing.T) {
	needles := []needle{{"a", "usr/bin/a"}, {"b", "/b.pc"}}
	line, long := "usr/bin/a  x/found\nusr/lib/b.pc  x/other\n", strings.Repeat("y", 3*maxContentsLine)
	for _, before := range []int{0, 1, maxContentsLine - 30, maxContentsLine - 20, maxContentsLine - 10, maxContentsLine, 2*maxContentsLine - 25} {
		for _, text := range []string{strings.Repeat("\n", before) + line, strings.Repeat("z", before) + "\n" + line,
			strings.Repeat("\n", before) + long + "usr/bin/a  x/wrong\n" + line} {
			found, err := scanContents(t.Context(), strings.NewReader(text), needles)
			if err != nil || fmt.Sprint(found) != "[[found] [other]]" {
				t.Errorf("after %d bytes of %d: %v, %v", before, len(text), found, err)
			}
		}
	}
	var many strings.Builder
	for i := range 2 * maxShippers {
		fmt.Fprintf(&many, "usr/%d/b.pc x/package%d\n", i, i)
	}
	found, err := scanContents(t.Context(), strings.NewReader(many.String()), needles)
	if err != nil || len(found[1]) != maxShippers {
		t.Errorf("%d packages, %v", len(found[1]), err)
	}
}

// What the quick search of blocks finds is what a look at each line finds.
func FuzzContents(f *testing.F) {
	f.Add([]byte(contentsText), "usr/bin/cmake", "pkgconfig/openssl.pc")
	f.Add([]byte("a b\n/x  y/zz\n x zz,yy\r\n"), "a", "x")
	f.Fuzz(func(t *testing.T, data []byte, exact, end string) {
		if exact == "" || exact[0] == '/' || strings.ContainsAny(exact+end, "\n") || end == "" {
			return
		}
		needles := []needle{{"", exact}, {"", "/" + end}}
		got, err := scanContents(t.Context(), bytes.NewReader(data), needles)
		if err != nil {
			t.Fatal(err)
		}
		want := make([][]string, 2)
		for line := range strings.SplitSeq(string(data), "\n") {
			line = strings.TrimRight(line, " \t\r")
			gap := strings.LastIndexAny(line, " \t")
			if gap < 0 {
				continue
			}
			name := strings.TrimRight(line[:gap], " \t")
			if name == exact {
				want[0] = addShippers(want[0], line[gap+1:])
			}
			if strings.HasSuffix(name, "/"+end) {
				want[1] = addShippers(want[1], line[gap+1:])
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %q, not %q", got, want)
		}
		for _, names := range got {
			for _, n := range names {
				if !isPackageName(n) {
					t.Errorf("%q is a package", n)
				}
			}
		}
	})
}
