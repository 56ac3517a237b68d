package toolstest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stead-env/stead/envs/lock"
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
