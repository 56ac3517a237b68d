// Package toolstest installs tools over a release's root for real: the dpkg of a made
// Debian 11 server runs in sessions.
package toolstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/oci"
	"github.com/stead-env/stead/runtime/session"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
	"github.com/stead-env/stead/snapshot/scrub"
)

func TestMain(m *testing.M) {
	if code, ok := session.Hook(os.Args); ok {
		os.Exit(code)
	}
	if what := os.Getenv(actAs); what != "" {
		os.Exit(act(what))
	}
	code := m.Run()
	if shared.dir != "" {
		if err := os.RemoveAll(shared.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is what all tests stand on: a release of a made server, in a fleet, and a store
// that has its packages.
var shared struct {
	sync.Once
	dir, host string
	err       error
}

// world is a store and a fleet.
type world struct {
	t      testing.TB
	cfg    envs.Config
	base   *envs.Root
	engine runtime.Engine
	notes  *notes
}

// notes are what people are told.
type notes struct {
	mu  sync.Mutex
	all []string
}

func (n *notes) progress(e snapshot.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Note != "" {
		n.all = append(n.all, e.Note)
	}
}

func (n *notes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.all, "\n")
}

// newWorld is a store with the release, and a fleet.
func newWorld(t testing.TB) *world {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("the real thing takes a minute")
	case os.Getuid() != 0:
		t.Skip("making a production host needs root")
	}
	for _, program := range []string{"mmdebstrap", "runc", "dpkg-deb", "apt-get"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%v: see .ci/setup", err)
		}
	}
	shared.Do(func() { shared.err = share(context.Background()) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	dir, err := os.MkdirTemp(shared.dir, "test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Nobody writes to roots; trees of the release aren't needed any more.
	script := `mkdir -m 700 "$2/store" && cp -al "$1/store/blobs" "$2/store/" && ln -s "$1/store/roots" "$2/store/roots" && cp -r "$1/fleet" "$2/"`
	if out, err := exec.Command("sh", "-ec", script, "sh", shared.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("copying the store: %v\n%s", err, out)
	}
	return open(t, filepath.Join(dir, "store"))
}

func open(t testing.TB, dir string) *world {
	t.Helper()
	n := &notes{}
	cfg, err := config(dir, n.progress)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cfg.Store.Close() })
	rel, err := cfg.Fleet.Resolve(envs.Ref{Target: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	base, err := envs.Pull(t.Context(), cfg, rel)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, cfg, base, oci.New(""), n}
}

func config(dir string, progress snapshot.Progress) (envs.Config, error) {
	st, err := store.Open(dir)
	if err != nil {
		return envs.Config{}, err
	}
	fleet, err := envs.OpenFleet(filepath.Join(filepath.Dir(dir), "fleet"))
	return envs.Config{Store: st, Fleet: fleet, Progress: progress}, err
}

// share takes the snapshot of the server.
func share(ctx context.Context) error {
	out, err := exec.Command("../../testdata/hosts/cached", "bare-host").Output()
	if err != nil {
		return fmt.Errorf("making a host: %w", err)
	}
	shared.host = filepath.Join(strings.TrimSpace(string(out)), "host")
	if shared.dir, err = os.MkdirTemp("/var/tmp", "stead-tools-"); err != nil {
		return err
	}
	cfg, err := config(filepath.Join(shared.dir, "store"), nil)
	if err != nil {
		return err
	}
	defer cfg.Store.Close()
	rules, err := scrub.New(nil, nil)
	if err != nil {
		return err
	}
	h, err := host.Folder(shared.host)
	if err != nil {
		return err
	}
	defer h.Close()
	res, err := envs.Snapshot(ctx, cfg, h, envs.SnapshotOptions{Target: "acme", Address: shared.host, Readers: pkgdb.Readers, Rules: rules,
		Architecture: goruntime.GOARCH, Accept: func(*envs.Review) error { return nil }})
	if err == nil {
		_, err = envs.Pull(ctx, cfg, res.Release)
	}
	return err
}

func (w *world) options() (envs.MakeOptions, error) {
	rules, err := scrub.New(nil, nil)
	return envs.MakeOptions{Engine: w.engine, Rules: rules, Layers: func(l envs.KeptLayers) (snapshot.Host, envs.LayerChanges, error) {
		o, err := host.OpenOverlay(host.Layers{Upper: l.Upper, Lower: l.Root.Path, Entries: l.Entries,
			MountPoints: l.MountPoints, UserXattrs: l.UserXattrs, Unheld: l.Unheld})
		if err != nil {
			return nil, nil, err
		}
		return o, o.Changes, nil
	}}, err
}

// make installs packages.
func (w *world) make(packages ...lock.Package) (*envs.Tools, error) {
	opts, err := w.options()
	if err != nil {
		w.t.Fatal(err)
	}
	return envs.MakeTools(w.t.Context(), w.cfg, w.base, packages, nil, opts)
}

// layer makes the layer of tools ready.
func (w *world) layer(tools *envs.Tools) *envs.ToolsLayer {
	w.t.Helper()
	layer, err := envs.PullTools(w.t.Context(), w.cfg, w.base, tools)
	if err != nil {
		w.t.Fatal(err)
	}
	return layer
}

// add puts a package file into the store and pins it.
func (w *world) add(file string) lock.Package {
	w.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	d, err := digest.FromReader(f)
	if err != nil {
		w.t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err = f.Seek(0, io.SeekStart); err == nil {
		err = w.cfg.Store.PutBlob(w.t.Context(), d, info.Size(), f)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	fields, err := exec.Command("dpkg-deb", "-f", file, "Package", "Version", "Architecture").Output()
	if err != nil {
		w.t.Fatal(err)
	}
	p := lock.Package{Size: info.Size(), SHA256: d.Encoded(), Proof: lock.Exact}
	for line := range strings.Lines(string(fields)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch name {
		case "Package":
			p.Name = value
		case "Version":
			p.Version = value
		case "Architecture":
			p.Architecture = value
		}
	}
	return p
}

// run runs a command in the root and a layer, and returns what it wrote.
func (w *world) run(ctx context.Context, layer *envs.ToolsLayer, script string) (string, error) {
	scratch := envs.ScratchDir(w.cfg.Store)
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return "", err
	}
	var out bytes.Buffer
	spec := runtime.Spec{Name: "acme@1", Root: w.base.Path, Identity: w.base.Identity.String(), Scratch: scratch, Lower: []string{layer.Path},
		Command: []string{"sh", "-ec", script}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}, Umask: 0o022, Hostname: "acme"}
	res, err := w.engine.Run(ctx, spec, runtime.Stdio{Out: &out, Err: &out})
	if err == nil && res.ExitCode != 0 {
		err = errors.New(out.String())
	}
	return out.String(), err
}

// must is run for what has to go well.
func (w *world) must(layer *envs.ToolsLayer, script string) string {
	w.t.Helper()
	out, err := w.run(w.t.Context(), layer, script)
	if err != nil {
		w.t.Fatalf("%s: %v", script, err)
	}
	return out
}
