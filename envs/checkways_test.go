package envs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/object/objecttest"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
)

const wayDir = "usr/lib/x86_64-linux-gnu"

// wayLibrary makes a libway.so.1 with as many versions, each with a symbol.
func wayLibrary(t *testing.T, p string, versions int) {
	source, script := "", ""
	for v := 1; v <= versions; v++ {
		source += fmt.Sprintf("int way%d(void) { return %d; }\n", v, v)
		script += fmt.Sprintf("WAY_%d { global: way%d; };\n", v, v)
	}
	script = strings.Replace(script, "WAY_1 { global: way1; }", "WAY_1 { global: way1; local: *; }", 1)
	objecttest.Build(t, objecttest.Options{Path: p, Source: source, Versions: script, Args: []string{"-shared", "-fPIC", "-Wl,-soname,libway.so.1"}})
}

// wayFleet has releases with nothing but a loader and, as libway1 of a version, a library.
type wayFleet struct {
	*testing.T
	cfg    Config
	loader string
}

func newWayFleet(t *testing.T) *wayFleet {
	ld, err := filepath.EvalSymlinks("/lib64/ld-linux-x86-64.so.2")
	if err != nil {
		t.Skip("this machine has no glibc for amd64: ", err)
	}
	return &wayFleet{t, Config{Store: testStore(t), Fleet: testFleet(t)}, ld}
}

// release adds a release; change may change its lock.
func (f *wayFleet) release(target, version string, versions int, change func(*lock.Lock)) Release {
	f.Helper()
	root := f.TempDir()
	ld, err := os.ReadFile(f.loader)
	if err != nil {
		f.Fatal(err)
	}
	inFolder(f.T, root, map[string]string{"lib64/ld-linux-x86-64.so.2": string(ld)})
	packages := []system.Package{{Name: "libc6", Version: "2.36", Architecture: "amd64"}}
	objecttest.Library(f.T, filepath.Join(root, wayDir, "libc.so.6"), `int __libc_start_main(void) { return 0; }`)
	if versions > 0 {
		wayLibrary(f.T, filepath.Join(root, wayDir, "libway.so.1"), versions)
		packages = append(packages, system.Package{Name: "libway1", Version: version, Architecture: "amd64"})
	}
	files := store.Manifest{}
	for _, p := range []string{"lib64/ld-linux-x86-64.so.2", wayDir + "/libc.so.6", wayDir + "/libway.so.1"} {
		data, err := os.ReadFile(filepath.Join(root, p))
		if err == nil {
			files = append(files, snapshot.File{Path: p, Type: snapshot.Regular, Mode: 0o755, Size: int64(len(data)), Digest: fmt.Sprintf("%x", sha256.Sum256(data))})
		}
	}
	source := system.Source{Files: files, Packages: packages,
		Owner: func(p string) string {
			if strings.HasSuffix(p, "libway.so.1") {
				return "libway1"
			}
			return "libc6"
		},
		Open: func(_ context.Context, file snapshot.File) (system.Content, error) {
			return os.Open(filepath.Join(root, file.Path))
		}}
	known, err := knownObjects(f.cfg, target)
	if err != nil {
		f.Fatal(err)
	}
	index, _, err := makeIndex(f.Context(), f.cfg, source, known)
	if err != nil {
		f.Fatal(err)
	}
	rel, _, err := f.cfg.Fleet.AddRelease(target, func(n int, _ Release) ([]byte, error) {
		l := testLock(target, n)
		l.Index, l.Release.Created = index, l.Release.Created.Add(time.Duration(n)*time.Hour)
		if l.Host.Kernel = fmt.Sprint("6.1.", n); change != nil { // another release, whatever else is the same
			change(l)
		}
		return l.Write(), nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return rel
}

// judged is what a program of some source comes to on a release, with the ways out.
func (f *wayFleet) judged(rel Release, source string, versions int, archives *ToolsOptions) artifact.Reason {
	f.Helper()
	dir := f.TempDir()
	lib := filepath.Join(dir, "libway.so.1")
	wayLibrary(f.T, lib, versions)
	app := objecttest.Program(f.T, filepath.Join(dir, "app"), source, "-nostdlib", "-Wl,-e,main", lib)
	sets := readArtifacts(f.T, ArtifactOptions{}, app)
	index, header, err := OpenIndex(f.Context(), f.cfg, rel, IndexOptions{})
	if err != nil {
		f.Fatal(err)
	}
	target := &artifact.Target{Name: rel.String(), System: index, Host: header.Host, Facts: index.Facts()}
	answers, err := target.Judge(f.Context(), sets[0])
	if err != nil {
		f.Fatal(err)
	}
	if len(answers) != 1 || answers[0].Verdict != artifact.Fails {
		f.Fatalf("it comes to %+v", answers)
	}
	if err := FindWays(f.Context(), f.cfg, []Release{rel}, sets, answers, archives); err != nil {
		f.Fatal(err)
	}
	i := slices.IndexFunc(answers[0].Reasons, func(r artifact.Reason) bool { return r.Verdict == artifact.Fails })
	return answers[0].Reasons[i]
}

func hasWay(t *testing.T, r artifact.Reason, want ...string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(r.Ways, w) {
			t.Errorf("%s\n%s\nhas not %q", r.Text, strings.Join(r.Ways, "\n"), w)
		}
	}
}

func TestFindWays(t *testing.T) {
	t.Parallel()
	f := newWayFleet(t)
	rel := f.release("acme", "1.9-1", 1, nil)
	f.release("acme", "1.10-1", 3, nil)
	f.release("acme", "1.11-1", 3, nil)
	f.release("globex", "1.10-1~deb11u1", 2, nil)
	f.release("initech", "1.9-2", 2, func(l *lock.Lock) { l.Host.Version = "12" })
	f.release("umbrella", "1.9-3", 2, func(l *lock.Lock) { l.Host.Architecture = "arm64" })
	f.release("soylent", "", 0, nil)

	r := f.judged(rel, "int way2(void); int main(void) { return way2(); }", 2, nil)
	hasWay(t, r, "acme@2 has WAY_2, in libway1 1.10-1", "globex@1 has WAY_2, in libway1 1.10-1~deb11u1: the lowest version among other targets")
	var places []string
	for _, e := range r.Elsewhere {
		places = append(places, e.Release+" "+e.Version)
	}
	if want := []string{"initech@1 1.9-2", "globex@1 1.10-1~deb11u1", "acme@2 1.10-1", "acme@3 1.11-1"}; !slices.Equal(places, want) {
		t.Errorf("it is elsewhere in %v, not %v", places, want)
	}
	// Where only one release of another kind has it, that is told.
	r = f.judged(rel, "int way4(void); int main(void) { return way4(); }", 4, nil)
	if len(r.Elsewhere) != 0 || slices.ContainsFunc(r.Ways, func(w string) bool { return strings.Contains(w, " has WAY_4") }) {
		t.Errorf("nobody has it: %v %v", r.Elsewhere, r.Ways)
	}
	// A library that is missing altogether, in a version that has what is needed of it.
	bare := f.release("soylent", "", 0, nil)
	r = f.judged(bare, "int way1(void); int main(void) { return way1(); }", 1, nil)
	hasWay(t, r, "globex@1 has libway.so.1, in libway1 1.10-1~deb11u1: the lowest version among other targets")
	r = f.judged(bare, "int way3(void); int main(void) { return way3(); }", 3, nil)
	hasWay(t, r, "acme@3 has libway.so.1, in libway1 1.11-1: the lowest version among other targets")
}

// What a program brings, and wasn't given, is pointed out.
func TestNotGiven(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app, lib := filepath.Join(dir, "bin/app"), filepath.Join(dir, "lib/libx.so.1")
	objecttest.Library(t, lib, "int x(void) { return 1; }")
	objecttest.Program(t, app, "int x(void); int main(void) { return x(); }", lib, "-Wl,-rpath,$ORIGIN/../lib")
	for library, want := range map[string]string{"libx.so.1": "[check it together with " + lib + " build it]", "liby.so.1": "[build it]"} {
		answers := []artifact.Answer{{File: app, Reasons: []artifact.Reason{{Kind: "missing-library", By: app, Library: library, Ways: []string{"build it"}}}}}
		sets := readArtifacts(t, ArtifactOptions{}, app)
		notGiven(sets, answers)
		notGiven(sets, answers)
		if got := fmt.Sprint(answers[0].Reasons[0].Ways); got != want {
			t.Errorf("for %s: %s", library, got)
		}
	}
}

// wayArchive is a signed archive of packages of libway.so.1, by their versions; its key is
// known on a machine.
type wayArchive struct {
	files   map[string][]byte
	machine string
	key     *openpgp.Entity
	entry   lock.Archive
}

func wayPackage(t *testing.T, control string, versions int) []byte {
	dir := t.TempDir()
	inFolder(t, dir, map[string]string{"p/DEBIAN/control": control + "Maintainer: Nobody <nobody@mirror.example>\nDescription: x\n"})
	wayLibrary(t, filepath.Join(dir, "p", wayDir, "libway.so.1"), versions)
	inDir(t, dir, "dpkg-deb", "--root-owner-group", "-Znone", "-b", "p", "p.deb")
	deb, err := os.ReadFile(filepath.Join(dir, "p.deb"))
	if err != nil {
		t.Fatal(err)
	}
	return deb
}

func newWayArchive(t *testing.T, packages map[string]int) *wayArchive {
	a := &wayArchive{files: map[string][]byte{}, machine: t.TempDir()}
	dated := time.Date(2024, 8, 31, 10, 3, 48, 0, time.UTC)
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return dated }}
	var err error
	if a.key, err = openpgp.NewEntity("Archive", "", "archive@mirror.example", config); err != nil {
		t.Fatal(err)
	}
	var keyring bytes.Buffer
	if err := a.key.Serialize(&keyring); err != nil {
		t.Fatal(err)
	}
	inFolder(t, a.machine, map[string]string{"usr/share/keyrings/archive.gpg": keyring.String(), "var/lib/dpkg/status": ""})
	var index, contents string
	for name, versions := range packages {
		name, version, _ := strings.Cut(name, "=")
		control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\n", name, version)
		deb := wayPackage(t, control, versions)
		at := fmt.Sprintf("pool/main/%s_%s.deb", name, version)
		a.files[at] = deb
		index += fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %x\n\n", control, at, len(deb), sha256.Sum256(deb))
		contents += fmt.Sprintf("%s/libway.so.1 libs/%s\n", wayDir, name)
	}
	release := fmt.Sprintf("Origin: Way\nSuite: stable\nCodename: stable\nDate: %s\nArchitectures: amd64\nComponents: main\nSHA256:\n", dated.Format(time.RFC1123))
	for name, text := range map[string]string{"main/binary-amd64/Packages.gz": index, "main/Contents-amd64.gz": contents} {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte(text))
		z.Close()
		a.files["dists/stable/"+name] = b.Bytes()
		release += fmt.Sprintf(" %x %d %s\n", sha256.Sum256(b.Bytes()), b.Len(), name)
	}
	var signed bytes.Buffer
	w, err := clearsign.Encode(&signed, a.key.PrivateKey, config)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(release))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a.files["dists/stable/InRelease"] = signed.Bytes()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := a.files[strings.TrimPrefix(r.URL.Path, "/debian/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", dated, bytes.NewReader(data))
	}))
	t.Cleanup(srv.Close)
	a.entry = lock.Archive{Name: "way-stable", URI: srv.URL + "/debian", Suite: "stable", InRelease: digest.FromBytes(signed.Bytes()),
		SignedBy: []string{fmt.Sprintf("%X", a.key.PrimaryKey.Fingerprint)}, Dated: dated}
	return a
}

func (a *wayArchive) lock(l *lock.Lock) {
	l.Archives = []lock.Archive{a.entry}
	l.Packages = []lock.Package{{Name: "libway1", Version: "1.0", Architecture: "amd64", Archive: a.entry.Name, Path: "pool/main/libway1_1.0.deb",
		Size: 1, SHA256: strings.Repeat("a", 64), Proof: lock.Exact}}
}

func (a *wayArchive) options() *ToolsOptions {
	return &ToolsOptions{Readers: pkgdb.Readers, OpenRoot: func(dir string) (snapshot.Host, error) {
		if dir == "/" {
			dir = a.machine
		}
		return host.Folder(dir)
	}}
}

// The archives of a target are asked for the lowest version that would do, without its
// env: its lock tells where they are.
func TestFindWaysInArchives(t *testing.T) {
	t.Parallel()
	f := newWayFleet(t)
	a := newWayArchive(t, map[string]int{"libway1=1.0": 1, "libway1=1.1": 1, "libway1=1.9": 2, "libway1=1.10": 2, "libway1=0.5": 3, "libother1=2": 1})
	f.cfg.Progress = func(e snapshot.Event) {
		if e.Note != "" {
			t.Log(e.Note)
		}
	}
	rel := f.release("acme", "1.0", 1, a.lock)
	r := f.judged(rel, "int way2(void); int main(void) { return way2(); }", 2, a.options())
	hasWay(t, r, "upgrade libway1 on acme to 1.9, the lowest version in its archives that has WAY_2 (way-stable)")
	if want := (artifact.Elsewhere{Archive: "way-stable", Package: "libway1", Version: "1.9"}); len(r.Elsewhere) != 1 || r.Elsewhere[0] != want {
		t.Errorf("it is elsewhere in %v", r.Elsewhere)
	}
	bare := f.release("soylent", "", 0, a.lock)
	r = f.judged(bare, "int way1(void); int main(void) { return way1(); }", 1, a.options())
	hasWay(t, r, "install libway1 0.5 on soylent: its archives have libway.so.1 in it (way-stable)")
}
