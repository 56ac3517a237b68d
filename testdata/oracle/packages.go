package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/snapshot"
	hosts "github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
)

// bundle is an installed package of a host, whose files are judged together.
type bundle struct {
	name, version, architecture string

	subjects []subject
	paths    []string // of files and links, without links in their folders
}

// bundlesOf are the packages of a host that bring something to judge, in the order of a
// digest of their names, so that the first of them are any.
func bundlesOf(ctx context.Context, h host, list []subject) ([]bundle, error) {
	db, err := database(ctx, h.Root)
	if err != nil {
		return nil, err
	}
	known := map[string]subject{}
	for _, s := range list {
		known[s.Path] = s
	}
	var all []bundle
	for _, p := range db.Packages {
		b := bundle{name: p.Name, version: p.Version, architecture: p.Architecture}
		for _, file := range p.Files {
			dir, err := filepath.EvalSymlinks(filepath.Join(h.Root, filepath.Dir(file))) // /lib is a link
			if err != nil {
				continue // diverted, or left out
			}
			path := strings.TrimPrefix(filepath.Join(dir, filepath.Base(file)), h.Root)
			s, judged := known[path]
			st, err := os.Lstat(h.Root + path)
			link := err == nil && st.Mode()&os.ModeSymlink != 0
			if judged {
				b.subjects = append(b.subjects, s)
			}
			if judged || link || err == nil && st.Mode().IsRegular() && strings.Contains(path, ".so") {
				b.paths = append(b.paths, path)
			}
		}
		// These replace the loader that is to be asked, or ldconfig.
		if len(b.subjects) > 0 && !strings.HasPrefix(p.Name, "libc6") && p.Name != "libc-bin" {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b bundle) int {
		x, y := sha256.Sum256([]byte(a.name)), sha256.Sum256([]byte(b.name))
		return cmp.Or(slices.Compare(x[:], y[:]), cmp.Compare(a.name, b.name))
	})
	return all, nil
}

func database(ctx context.Context, root string) (*snapshot.Database, error) {
	h, err := hosts.Folder(root)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return snapshot.ReadDatabase(ctx, h, pkgdb.Readers)
}

// set is the package as stead reads it.
func (b bundle) set(h host) (*artifact.Set, error) {
	set := &artifact.Set{Packages: []artifact.Package{{File: b.name + ".deb", Format: content.Deb,
		Package: &content.Package{Name: b.name, Version: b.version, Architecture: b.architecture}}}}
	for _, path := range b.paths {
		full := h.Root + path
		if target, err := os.Readlink(full); err == nil {
			set.Files = append(set.Files, artifact.File{Name: path, Path: path, Link: target})
			continue
		}
		f, err := fileOf(full, path)
		if err != nil {
			return nil, err
		}
		set.Files = append(set.Files, f)
	}
	return set, nil
}

// install lays the package over the target, as dpkg and the target's ldconfig do. The
// libraries of the package that the target has by that name go.
func (b bundle) install(ctx context.Context, replaced []string) error {
	for _, file := range replaced {
		if st, err := os.Lstat("/" + file); err == nil && !st.IsDir() && strings.Contains(file, ".so") {
			if err := os.Remove("/" + file); err != nil {
				return err
			}
		}
	}
	for _, path := range b.paths {
		if st, err := os.Stat(path); err == nil && st.IsDir() {
			continue // a folder stays one
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		if target, err := os.Readlink(sourceDir + path); err == nil {
			if err := os.Symlink(target, path); err != nil {
				return err
			}
		} else if err := copyFile(sourceDir+path, path); err != nil {
			return err
		}
	}
	if out, err := exec.CommandContext(ctx, "/sbin/ldconfig").CombinedOutput(); err != nil {
		return fmt.Errorf("running ldconfig: %w: %s", err, out)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	// Nothing is forked while it is open for writing: nobody could start it until that ended.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, st.Mode().Perm())
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// breaks are the lines of a package's control file that name what can't be beside it.
var (
	breaks      = regexp.MustCompile(`(?m)^(?:Breaks|Conflicts): (.*)$`)
	packageName = regexp.MustCompile(`[a-z0-9][a-z0-9+.-]+`)
)

// tallyPackages installs some packages of source on target, each alone, and compares what
// stead says of their files with what the target says.
func (o *oracle) tallyPackages(ctx context.Context, source, target host, judge *artifact.Target, list []subject) (*tally, error) {
	bundles, err := bundlesOf(ctx, source, list)
	if err != nil {
		return nil, err
	}
	db, err := database(ctx, target.Root)
	if err != nil {
		return nil, err
	}
	replaced, refused := map[string][]string{}, map[string]bool{}
	for _, p := range db.Packages {
		replaced[p.Name] = p.Files
		for _, m := range breaks.FindAllStringSubmatch(string(p.Control), -1) {
			for _, name := range packageName.FindAllString(m[1], -1) {
				refused[name] = true
			}
		}
	}
	bundles = slices.DeleteFunc(bundles, func(b bundle) bool { return refused[b.name] && replaced[b.name] == nil })
	bundles = bundles[:min(len(bundles), o.packages)]
	answers := make([][]answer, len(bundles))
	verdicts := make([]map[string]artifact.Answer, len(bundles))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(rooms)
	for i, b := range bundles {
		g.Go(func() error {
			set, err := b.set(source)
			if err != nil {
				return err
			}
			if verdicts[i], err = verdictsOf(gctx, judge, set); err != nil {
				return err
			}
			return inRoom(target.Root, source.Root, func(r *room) error {
				answers[i], err = b.ask(gctx, r, replaced[b.name])
				return err
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t := newTally(source.Name, target.Name)
	for i, b := range bundles {
		for _, a := range answers[i] {
			v, ok := verdicts[i][a.Path]
			o, why := compared(a, v, ok)
			t.count(a, v, b.name+": "+a.Path, o, why)
		}
	}
	return t, nil
}

func (b bundle) ask(ctx context.Context, r *room, replaced []string) (answers []answer, err error) {
	if err := b.install(ctx, replaced); err != nil {
		return nil, fmt.Errorf("installing %s: %w", b.name, err)
	}
	for _, s := range b.subjects {
		a := answer{Path: s.Path}
		if err := r.question(ctx, &a, s); err != nil {
			return nil, err
		}
		answers = append(answers, a)
	}
	return answers, nil
}
