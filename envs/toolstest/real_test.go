package toolstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
)

// compilers are the tools of which the layer must change nothing else of a server.
var compilers = []string{"build-essential", "libssl-dev", "libpq-dev", "pkg-config", "cmake", "python3-dev"}

// choose has apt find packages for the server, and fetches them.
func (w *world) choose(names ...string) []lock.Package {
	w.t.Helper()
	cache := filepath.Join(shared.dir, "apt-"+names[0])
	for _, dir := range []string{"archives/partial", "state/lists"} {
		if err := os.MkdirAll(filepath.Join(cache, dir), 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	args := []string{"-qq", "-y", "--no-install-recommends", "--download-only", "-o", "Dir=" + shared.host,
		"-o", "Dir::State::status=" + filepath.Join(shared.host, "var/lib/dpkg/status"), "-o", "Dir::Cache=" + cache,
		"-o", "Dir::Cache::archives=" + cache + "/archives", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root",
		"-o", "Dir::Etc::Trusted=" + "/usr/share/keyrings/debian-archive-keyring.gpg",
		"-o", "Acquire::Check-Valid-Until=false", "-o", "Dir::Log=" + cache, "install"}
	if out, err := exec.Command("apt-get", append(args, names...)...).CombinedOutput(); err != nil {
		w.t.Fatalf("apt-get: %v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(cache, "archives/*.deb"))
	if err != nil || len(files) == 0 {
		w.t.Fatalf("apt-get fetched %v: %v", files, err)
	}
	var packages []lock.Package
	for _, f := range files {
		packages = append(packages, w.add(f))
	}
	return packages
}

// TestCompilers installs what builds C, and looks at what that does to the server.
func TestCompilers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tools, err := w.make(w.choose(compilers...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range tools.Shadows {
		if !strings.HasPrefix(p, "var/lib/dpkg/") && !strings.HasPrefix(p, "etc/alternatives/") && p != "etc/ld.so.cache" {
			t.Errorf("/%s of the server is shadowed", p)
		}
	}
	if !slices.Contains(tools.Shadows, "var/lib/dpkg/status") || !slices.Contains(tools.Shadows, "etc/ld.so.cache") {
		t.Errorf("the layer shadows %q", tools.Shadows)
	}
	layer := w.layer(tools)
	const build = `cd /tmp
cat >a.c <<'END'
#include <libpq-fe.h>
#include <openssl/ssl.h>
#include <stdio.h>
int main(void) { return printf("%d %s\n", PQlibVersion() > 0, OPENSSL_VERSION_TEXT) < 0; }
END
gcc -o a a.c $(pkg-config --cflags --libs openssl libpq)
./a
printf 'cmake_minimum_required(VERSION 3.10)\nproject(b CXX)\nadd_executable(b b.cc)\n' >CMakeLists.txt
printf '#include <iostream>\nint main() { std::cout << "made by cmake\\n"; }\n' >b.cc
cmake . >/dev/null
make >/dev/null
./b
test -f "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
dpkg --audit
dpkg --verify | grep -v ' c /' || true
`
	if got := w.must(layer, build); !strings.HasPrefix(got, "1 OpenSSL 1.1.1") || !strings.HasSuffix(got, "\nmade by cmake\n") || strings.Count(got, "\n") != 2 {
		t.Errorf("got %q", got)
	}
	// What packages bring takes no room of its own.
	var own int64
	err = filepath.WalkDir(layer.Path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() && info.Sys().(*syscall.Stat_t).Nlink == 1 {
			own += info.Size()
		}
		return err
	})
	if err != nil || own > 0 {
		t.Errorf("%d bytes of the layer are in no tree: %v", own, err)
	}
	if tools.Delta.Size > 2<<20 {
		t.Errorf("the delta has %d bytes", tools.Delta.Size)
	}
}

// BenchmarkNine gives nine releases a few packages apart the same tools, and tells how
// much disk all take, of what one does.
func BenchmarkNine(b *testing.B) {
	w := newWorld(b)
	packages := w.choose(compilers...)
	text, err := w.base.Release.Text()
	if err != nil {
		b.Fatal(err)
	}
	without := []string{"vim-tiny", "nano", "less", "curl", "rsyslog", "logrotate", "cron", "sudo", "iproute2", "procps"}
	var one, nine int64
	for i := range 9 {
		l, err := lock.Read(text)
		if err != nil {
			b.Fatal(err)
		}
		l.Packages = slices.DeleteFunc(l.Packages, func(p lock.Package) bool { return i > 0 && (p.Name == without[i] || p.Name == without[i-1]) })
		begun := time.Now()
		made := *w
		if i > 0 {
			made.base = w.derived(fmt.Sprint("acme-", i), l)
		}
		tools, err := made.make(packages...)
		if err != nil {
			b.Fatal(err)
		}
		nine = w.disk()
		b.Logf("target %d: %s, delta of %d bytes, %d bytes of disk", i, time.Since(begun).Round(time.Second/10), tools.Delta.Size, nine)
		if i == 0 {
			one = nine
		}
	}
	b.ReportMetric(float64(nine)/float64(one), "times-the-disk-of-one")
}

// derived adds a release to the fleet and makes its root.
func (w *world) derived(target string, l *lock.Lock) *envs.Root {
	w.t.Helper()
	l.Release.Target, l.Release.Number, l.Release.Parent = target, 1, ""
	for range 2 { // the first attempt tells the digest
		rel, _, err := w.cfg.Fleet.AddRelease(target, func(n int, _ envs.Release) ([]byte, error) {
			l.Release.Number = n
			return l.Write(), nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
		root, err := envs.Pull(w.t.Context(), w.cfg, rel)
		if err == nil {
			return root
		}
		differs, ok := errors.AsType[*image.RootfsError](err)
		if !ok {
			w.t.Fatal(err)
		}
		l.Rootfs.Digest = differs.Got
	}
	w.t.Fatal("the root comes out differently each time")
	return nil
}

// disk is what the store takes.
func (w *world) disk() int64 {
	w.t.Helper()
	out, err := exec.Command("du", "-sc", "-B1", w.cfg.Store.Dir(), filepath.Join(w.cfg.Store.Dir(), store.Roots)+"/").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	lines := strings.Fields(string(out)) // the last line is the sum
	n, err := strconv.ParseInt(lines[len(lines)-2], 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
