package archive

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/snapshot/host"
)

// The machine's own apt lists, where it has some: verified through Debian's keys,
// with nothing fetched.
func TestThisMachine(t *testing.T) {
	names, err := os.ReadDir("/var/lib/apt/lists")
	if err != nil || len(names) < 4 {
		t.Skip("no apt lists here")
	}
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture} ${db:Status-Abbrev}\n").Output()
	if err != nil {
		t.Skip("no dpkg here")
	}
	arch, err := exec.Command("dpkg", "--print-architecture").Output()
	if err != nil {
		t.Skip("no dpkg here")
	}
	var want []Want
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 4 && f[3] == "ii" {
			want = append(want, Want{f[0], f[1], f[2]})
		}
	}
	h, err := host.Folder("/")
	if err != nil {
		t.Fatal(err)
	}
	var n notes
	begin := time.Now()
	d := Debian{Host: h, Store: newStore(t), Architecture: strings.TrimSpace(string(arch)), Offline: true, Fetch: quick(&n)}
	res, err := d.Locate(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	var mem goruntime.MemStats
	goruntime.ReadMemStats(&mem)
	t.Logf("%d of %d packages located in %s; %d MB from the system, %d MB allocated in all; notes %q",
		len(want)-len(missing(want, res.Candidates)), len(want), time.Since(begin).Round(time.Millisecond),
		mem.Sys>>20, mem.TotalAlloc>>20, n.text)
	for _, a := range res.Archives {
		t.Logf("%s %s %s", a.Name, a.Dated, a.SignedBy)
		if len(a.SignedBy) == 0 || !d.Store.HasBlob(a.InRelease) {
			t.Errorf("the archive has no evidence: %+v", a)
		}
	}
	for _, c := range res.Candidates {
		if c.Name == "bash" {
			return
		}
	}
	// Its lists may be newer than what is installed; that is no fault of this code.
	if policy, err := exec.Command("apt-cache", "madison", "bash").Output(); err == nil {
		for _, w := range want {
			if w.Name == "bash" && strings.Contains(string(policy), " "+w.Version+" ") {
				t.Errorf("bash %s is in the lists and was not located: %v", w.Version, res.Problems)
			}
		}
	}
}

// realRoot is a root of Debian 11 with nothing but sources and keys, at the addresses of
// this machine's own apt.
func realRoot(t testing.TB, components string) *folder {
	machine, err := host.Folder("/")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := os.ReadFile("/usr/share/keyrings/debian-archive-keyring.gpg")
	if err != nil {
		t.Skip("no keys of Debian here")
	}
	known, err := ReadKnown(t.Context(), machine, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range known {
		if k.Origin != "Debian" || !strings.HasPrefix(k.URI, "http") || strings.Contains(k.Suite, "security") {
			continue
		}
		dir := t.TempDir()
		h, err := host.Folder(dir)
		if err != nil {
			t.Fatal(err)
		}
		root := &folder{Host: h, dir: dir}
		for name, content := range map[string][]byte{"etc/apt/trusted.gpg.d/debian.gpg": keys,
			"etc/apt/sources.list": []byte("deb " + k.URI + " bullseye " + components + "\n")} {
			p := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, content, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	t.Skip("this machine's apt knows no archive of Debian")
	return nil
}

// All of Debian 11, from this machine's own archive: read once, then from what is at hand.
func TestOffersReal(t *testing.T) {
	var n notes
	d := Debian{Host: realRoot(t, "main"), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	for _, offline := range []bool{false, true} {
		d.Offline = offline
		begin := time.Now()
		res := offers(t, d, OfferOptions{Names: []string{"build-essential", "libssl-dev", "cmake"}})
		var mem goruntime.MemStats
		goruntime.ReadMemStats(&mem)
		t.Logf("%d offers in %s, %d MB from the system", len(res.Packages), time.Since(begin).Round(time.Millisecond), mem.Sys>>20)
		names := map[string]Offer{}
		for _, o := range res.Packages {
			names[o.Name] = o
		}
		for _, name := range []string{"build-essential", "gcc-10", "g++", "libc6-dev", "linux-libc-dev", "libssl-dev", "cmake-data", "make", "make-guile"} {
			if names[name].Version == "" {
				t.Errorf("%s isn't offered", name)
			}
		}
		if len(res.Problems) > 0 || len(res.Packages) > 5000 || names["bash"].Name != "" ||
			names["libssl-dev"].Depends != "libssl1.1 (= "+names["libssl-dev"].Version+")" || !strings.HasPrefix(names["make-guile"].Provides, "make (= ") {
			t.Errorf("problems %v, %d offers, libssl-dev %+v", res.Problems, len(res.Packages), names["libssl-dev"])
		}
	}
}

func TestShippingReal(t *testing.T) {
	var n notes
	d := Debian{Host: realRoot(t, "contrib"), Store: newStore(t), Architecture: "amd64", Fetch: quick(&n)}
	res, err := d.Shipping(t.Context(), []string{"/usr/bin/amoeba", "*/bin/bgoffice-dict-download"}, OfferOptions{})
	if err != nil || len(res.Problems) > 0 || strings.Join(res.Packages["/usr/bin/amoeba"], " ") != "amoeba" ||
		strings.Join(res.Packages["*/bin/bgoffice-dict-download"], " ") != "bgoffice-dict-downloader" {
		t.Errorf("got %+v, %v, notes %s", res, err, &n)
	}
}

// Debian 11's main, 60,000 packages, out of an index that is at hand.
func BenchmarkOffers(b *testing.B) {
	d := Debian{Host: realRoot(b, "main"), Store: newStore(b), Architecture: "amd64"}
	opts := OfferOptions{Names: []string{"build-essential", "libssl-dev", "cmake"}}
	if _, err := d.Offers(b.Context(), opts); err != nil {
		b.Fatal(err)
	}
	d.Offline = true
	for b.Loop() {
		if res, err := d.Offers(b.Context(), opts); err != nil || len(res.Packages) == 0 {
			b.Fatal(err)
		}
	}
}
