package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// MakeOptions say how tools are installed.
type MakeOptions struct {
	Engine runtime.Engine
	// Layers opens a root, and what a session changed in it, as one host.
	Layers func(KeptLayers) (snapshot.Host, LayerChanges, error)
	// Rules tell the names of identity and secrets, which scripts make anew on each host.
	Rules snapshot.Rules
}

// MakeTools installs packages over a release's root, once, by the root's own package
// manager in a session without a network, and pins what came of it. Packages are all
// that the root lacks, archives where those that have an Archive are from. The result
// has no Wishes; its layer is in the store.
func MakeTools(ctx context.Context, cfg Config, base *Root, packages []lock.Package, archives []lock.Archive, opts MakeOptions) (*Tools, error) {
	tools := &Tools{Archives: archives, Packages: slices.Clone(packages)}
	if len(packages) == 0 {
		return tools, nil
	}
	if err := opts.Engine.Check(ctx); err != nil { // before anything is fetched
		return nil, err
	}
	if err := runtime.CheckArchitecture(base.Header.Host.Architecture); err != nil {
		return nil, err
	}
	release, err := Hold(base)
	if err != nil {
		return nil, err
	}
	defer release()
	m := &toolMaker{opts: opts, base: base, tools: tools, installer: installer{cfg: cfg, engine: opts.Engine},
		pull: puller{cfg: cfg, files: true, lock: tools.lock()}}
	if err := m.make(ctx); err != nil {
		return nil, fmt.Errorf("installing tools for %s: %w", base.Release, err)
	}
	if _, err := PullTools(ctx, cfg, base, tools); err != nil {
		return nil, err
	}
	return tools, nil
}

// toolMaker makes the tools of one release.
type toolMaker struct {
	pull puller
	installer
	opts  MakeOptions
	base  *Root
	tools *Tools
	below image.Below
	trees []image.Tree
}

func (m *toolMaker) make(ctx context.Context) (err error) {
	if err := m.pull.blobs(ctx); err != nil {
		return err
	}
	trees := packageTrees(m.pull.packages())
	if err := unpackAll(ctx, m.cfg, trees, m.pull.again); err != nil {
		return err
	}
	if m.trees, err = loadTrees(ctx, m.cfg, trees); err != nil {
		return err
	}
	if m.below, err = below(m.base); err != nil {
		return err
	}
	if err := m.checkConflicts(ctx); err != nil {
		return err
	}
	if m.work, err = m.cfg.Store.WorkDir("tools"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runtime.RemoveAll(m.work)) }()
	if err := m.install(ctx); err != nil {
		return err
	}
	return m.capture(ctx)
}

// install lets the root's dpkg install the packages.
func (m *toolMaker) install(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(m.work, "log"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	m.log = &dpkgLog{progress: m.cfg.Progress, total: int64(len(m.tools.Packages)), all: &boundedWriter{log, maxInstallLog}}
	m.spec = runtime.Spec{Name: m.base.Release.String(), Root: m.base.Path, Identity: m.base.Identity.String(),
		Upper: filepath.Join(m.work, "session")}
	if err := m.begin(); err != nil {
		return err
	}
	m.date(m.trees)
	var all []debControl
	for _, p := range m.tools.Packages {
		control, err := m.add(ctx, p)
		if err != nil {
			return err
		}
		all = append(all, control)
	}
	before, err := dpkgStatus(m.base.Path)
	if err != nil {
		return err
	}
	if err := m.own(before); err != nil {
		return err
	}
	for _, step := range newDebGraph(all).batches(nil) {
		code, err := m.installAll(ctx, true, step)
		if err != nil {
			return err
		}
		if code != 0 {
			return m.failed(code, log)
		}
	}
	if err := m.check(before); err != nil {
		return err
	}
	return m.checkDiversions(ctx)
}

// own refuses what would take the place of one of the release's packages: there is one of
// a name, but for those that are made for several architectures at once.
func (m *toolMaker) own(before map[string]string) error {
	native := m.base.Header.Host.Architecture
	for _, p := range m.tools.Packages {
		places := []string{p.Architecture}
		if p.Architecture == native || p.Architecture == "all" {
			places = []string{native, "all"}
		}
		for _, arch := range places {
			_, state, _ := strings.Cut(before[p.Name+"\t"+arch], "\t")
			if state != "" && state != "config-files" && state != "not-installed" {
				return fmt.Errorf("%s is one of the release's own packages", p.Name)
			}
		}
	}
	return nil
}

// maxInstallLog bounds what is kept of what dpkg and scripts write, in bytes.
const maxInstallLog = 16 << 20

// boundedWriter drops what is too much.
type boundedWriter struct {
	w    io.Writer
	left int
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

// failed says which package could not be installed, and keeps the log.
func (m *toolMaker) failed(code int, log *os.File) error {
	err := &InstallError{What: "dpkg", Code: code, Last: m.log.last, hint: "leave out the tool that needs it, or ask for another version of it"}
	subject, words := m.log.failure()
	if subject != "" {
		err.Last = words
		for i, name := range m.names {
			if strings.HasSuffix(subject, "/"+name) {
				subject = m.tools.Packages[i].Name
			}
		}
		err.What = "package " + subject
	}
	dir := filepath.Join(m.cfg.Store.Dir(), "logs")
	kept := filepath.Join(dir, "tools-"+m.base.Release.Target+".log")
	if os.MkdirAll(dir, 0o700) == nil && os.Rename(log.Name(), kept) == nil {
		err.Log = kept
	}
	return err
}

// check holds that all tools are installed, and that the release's own packages are what
// they were.
func (m *toolMaker) check(before map[string]string) error {
	after, err := dpkgStatus(m.changed())
	if err != nil {
		return err
	}
	var lacking []string
	for _, p := range m.tools.Packages {
		key := p.Name + "\t" + p.Architecture
		if after[key] != p.Version+"\tinstalled" {
			lacking = append(lacking, p.Name)
		}
		delete(after, key)
		delete(before, key)
	}
	if len(lacking) > 0 {
		return &InstallError{What: "installing " + some(lacking), Last: m.log.last}
	}
	var moved []string
	for key, state := range before {
		version, _, _ := strings.Cut(state, "\t")
		if now, _, _ := strings.Cut(after[key], "\t"); now != version || after[key] != state && !strings.HasSuffix(after[key], "\tinstalled") {
			name, _, _ := strings.Cut(key, "\t")
			moved = append(moved, name)
		}
		delete(after, key)
	}
	for key := range after {
		name, _, _ := strings.Cut(key, "\t")
		moved = append(moved, name)
	}
	if len(moved) > 0 {
		slices.Sort(moved)
		return fmt.Errorf("it would change packages of the release: %s", some(moved))
	}
	return nil
}

// capture turns what was changed into the delta.
func (m *toolMaker) capture(ctx context.Context) error {
	st := m.cfg.Store
	c := &toolCapture{toolMaker: m}
	if err := c.walk(ctx); err != nil {
		return err
	}
	base, delta, err := c.delta(ctx)
	if err != nil {
		return err
	}
	manifest, err := m.below.LayerManifest(base, delta.Entries, delta.Gone)
	if err != nil {
		return err
	}
	if m.tools.Digest, err = image.SaveManifest(ctx, st, manifest); err != nil {
		return err
	}
	m.tools.Shadows = c.shadows
	slices.Sort(m.tools.Shadows)
	c.report()
	for _, d := range ownToolBlobs(m.tools) {
		err := st.Sole(d)
		if remote := (store.Folder{Dir: m.cfg.Fleet.Blobs()}); err == nil && remote.Has(d) {
			err = st.Shared(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
