package toolstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

func TestCompilers(t *testing.T) {
	w := newWorld(t)
	packages := w.choose(compilers...)
	begun := time.Now()
	tools, err := w.make(packages...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d packages in %s; delta of %d bytes in %d entries; %s\nnotes:\n%s", len(packages), time.Since(begun), tools.Delta.Size,
		tools.Delta.Files, tools.Digest, w.notes)
	t.Logf("shadows: %s", strings.Join(tools.Shadows, " "))
	slices.Sort(tools.Shadows)
	layer := w.layer(tools)
	t.Log(w.must(layer, `cd /tmp; printf '#include <openssl/ssl.h>\n#include <stdio.h>\nint main(void){puts(OPENSSL_VERSION_TEXT);return 0;}\n' >a.c
		gcc -o a a.c $(pkg-config --libs --cflags openssl libpq); ./a; cmake --version; dpkg --audit; python3-config --cflags; mawk 'BEGIN{print 1}'`))
}
