package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// installer lets the dpkg of a root install package files, in sessions without a
// network. An engine never writes to the root that it is given: what changes is kept in
// an upper folder.
type installer struct {
	cfg    Config
	engine runtime.Engine
	spec   runtime.Spec // of the sessions: their name, root and upper folder
	work   string       // folder for what is mounted meanwhile
	force  []string     // what dpkg is told to pass over

	names  []string // of the package files, in the order in which they came
	newest int64    // of all files in packages, in seconds
	log    *dpkgLog
	told   []string // what the engine says of its sessions, which is the same of each
}

// What is mounted while packages are installed.
const (
	debsInside   = "/run/stead-packages"
	policyInside = "/usr/sbin/policy-rc.d"
	daemonInside = "sbin/start-stop-daemon"
)

// stubs stand for what starts services: invoke-rc.d asks policy-rc.d, which forbids all
// with 101 (invoke-rc.d(8)); what starts daemons by itself starts none.
var stubs = map[string]string{"policy-rc.d": "#!/bin/sh\nexit 101\n", "start-stop-daemon": "#!/bin/sh\nexit 0\n"}

func (in *installer) debs() string { return filepath.Join(in.work, "packages") }

func (in *installer) stub(name string) string { return filepath.Join(in.work, "stubs", name) }

// changed is the folder of what was made or changed.
func (in *installer) changed() string { return filepath.Join(in.spec.Upper, keptUpper) }

// begin makes the folders.
func (in *installer) begin() error {
	for _, dir := range []string{in.debs(), in.changed(), filepath.Join(in.work, "stubs")} {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return err
		}
	}
	for name, script := range stubs {
		if err := errors.Join(os.WriteFile(in.stub(name), []byte(script), 0o755), os.Chmod(in.stub(name), 0o755)); err != nil {
			return err
		}
	}
	return nil
}

// date finds out the time of the newest file in packages.
func (in *installer) date(trees []image.Tree) {
	for _, t := range trees {
		for _, f := range t.Manifest {
			in.newest = max(in.newest, f.MTime)
		}
	}
	in.newest = min(in.newest, time.Now().Unix())
}

// add puts a package's file where sessions see it, and tells what the package needs.
func (in *installer) add(ctx context.Context, p lock.Package) (debControl, error) {
	members, err := image.Control(ctx, in.cfg.Store, p.Digest())
	if err != nil {
		return debControl{}, fmt.Errorf("reading %s %s: %w", p.Name, p.Version, err)
	}
	fields, err := image.ControlFields(members["control"])
	if err != nil {
		return debControl{}, fmt.Errorf("reading %s %s: %w", p.Name, p.Version, err)
	}
	get := func(name string) string { return strings.Join(fields[name], ",") }
	in.names = append(in.names, fmt.Sprintf("%05d.deb", len(in.names)))
	if err := in.place(ctx, p, members, in.names[len(in.names)-1]); err != nil {
		return debControl{}, fmt.Errorf("copying %s %s: %w", p.Name, p.Version, err)
	}
	return debControl{name: p.Name, arch: p.Architecture, essential: get("Essential") == "yes",
		preDepends: get("Pre-Depends"), depends: get("Depends"), provides: get("Provides")}, nil
}

// place copies a package file. In the place of one whose files aren't put into a root
// comes one without files and scripts: dpkg has to know it.
func (in *installer) place(ctx context.Context, p lock.Package, members map[string][]byte, name string) error {
	out, err := os.OpenFile(filepath.Join(in.debs(), name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if isOutside(p.Name) {
		records := map[string][]byte{}
		if sums, ok := members["md5sums"]; ok {
			records["md5sums"] = sums
		}
		top := []snapshot.File{{Path: ".", Type: snapshot.Dir, Mode: 0o755}}
		err := image.Repack(ctx, out, snapshot.Package{Control: members["control"]}, records, nil, top, nil)
		return errors.Join(err, out.Close())
	}
	blob, err := in.cfg.Store.OpenBlob(p.Digest())
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = io.Copy(out, blob)
	return errors.Join(err, out.Close())
}

// installAll installs package files, by their numbers, and returns dpkg's exit code. For
// whole see run.
func (in *installer) installAll(ctx context.Context, whole bool, packages []int) (int, error) {
	args := []string{"--install"}
	for _, i := range packages {
		args = append(args, debsInside+"/"+in.names[i])
	}
	return in.dpkg(ctx, whole, nil, in.log, args...)
}

// dpkg runs the root's dpkg to its end and returns its exit code.
func (in *installer) dpkg(ctx context.Context, whole bool, input io.Reader, out io.Writer, args ...string) (int, error) {
	// The files on disk are made again if the machine stops, so nothing has to be synced;
	// nobody is there to be asked about configuration files.
	command := append([]string{"dpkg", "--force-unsafe-io", "--force-confdef", "--force-confold"}, in.force...)
	return in.run(ctx, whole, input, out, append(command, args...)...)
}

// run runs a command in the root; whole says that start-stop-daemon won't be replaced
// by dpkg meanwhile, and can be covered.
func (in *installer) run(ctx context.Context, whole bool, input io.Reader, out io.Writer, command ...string) (int, error) {
	spec := in.spec
	spec.Scratch, spec.Command, spec.Dir, spec.Umask = ScratchDir(in.cfg.Store), command, "/", 0o022
	spec.Hostname, spec.Network, spec.KeepOwners = "localhost", runtime.NetworkNone, !in.cfg.Store.Owners().Any()
	// Whatever makes files in an order or with a time of its own is told to use these.
	spec.Env = []string{"DEBCONF_NONINTERACTIVE_SEEN=true", "DEBIAN_FRONTEND=noninteractive", "HOME=/root", "LC_ALL=C",
		"PATH=" + sessionPath, "PERL_HASH_SEED=0", "PYTHONHASHSEED=0", "SOURCE_DATE_EPOCH=" + strconv.FormatInt(in.newest, 10), "TERM=dumb"}
	spec.Mounts = []runtime.Mount{{Source: in.debs(), Target: debsInside, ReadOnly: true},
		{Source: in.stub("policy-rc.d"), Target: policyInside, ReadOnly: true}}
	if err := os.MkdirAll(spec.Scratch, 0o700); err != nil {
		return 0, fmt.Errorf("making a folder for sessions: %w", err)
	}
	there, err := in.hasDaemon()
	if err != nil {
		return 0, err
	}
	if whole && there {
		spec.Mounts = append(spec.Mounts, runtime.Mount{Source: in.stub("start-stop-daemon"), Target: "/" + daemonInside, ReadOnly: true})
	}
	res, err := in.engine.Run(ctx, spec, runtime.Stdio{In: input, Out: out, Err: out})
	for _, note := range res.Notes {
		if slices.Contains(in.told, note) {
			continue
		}
		in.told = append(in.told, note)
		in.cfg.Progress.Note("installing", note)
	}
	if err != nil {
		return 0, fmt.Errorf("running dpkg in %s: %w", spec.Name, err)
	}
	return res.ExitCode, nil
}

// hasDaemon reports whether there is a start-stop-daemon.
func (in *installer) hasDaemon() (bool, error) {
	view, err := viewRoot(in.spec.Root, in.spec.Upper)
	if err != nil {
		return false, err
	}
	defer view.close()
	if view.has("/" + daemonInside) {
		return true, nil
	}
	_, err = view.upper.Stat(daemonInside) // by links that were made there
	return err == nil, nil
}
