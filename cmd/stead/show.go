package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/snapshot/scrub"
)

type showFlags struct{ asJSON, delta, all, manifest, packages, changes bool }

func newShow(g *globals) *cobra.Command {
	var f showFlags
	cmd := &cobra.Command{
		Use:   "show TARGET",
		Short: "Show a release: what it is, its packages, its delta",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return runShow(cmd.Context(), g, args[0], f) },
	}
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer as JSON")
	cmd.Flags().BoolVar(&f.delta, "delta", false, "sum up what left the host, and what stayed, by folder")
	cmd.Flags().BoolVar(&f.all, "all", false, "with --delta: path by path")
	cmd.Flags().BoolVar(&f.manifest, "manifest", false, "list each file that left the host, with its size, SHA-256 and reason")
	cmd.Flags().BoolVar(&f.packages, "packages", false, "list the packages")
	cmd.Flags().BoolVar(&f.changes, "changes", false, "tell what moved since the release before")
	cmd.MarkFlagsMutuallyExclusive("delta", "manifest", "packages", "changes")
	return cmd
}

func runShow(ctx context.Context, g *globals, arg string, f showFlags) (err error) {
	if f.all && !f.delta {
		return usagef("--all says how to show --delta")
	}
	w, err := g.open(f.delta || f.manifest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	ref, err := envs.ParseRef(arg)
	if err != nil {
		return asUsage(err)
	}
	rel, err := w.fleet.Resolve(ref)
	if err != nil {
		return err
	}
	l, err := rel.Lock()
	if err != nil {
		return err
	}
	switch {
	case f.delta || f.manifest:
		return showDelta(ctx, g, w, l, f)
	case f.packages:
		return showPackages(g, l, f.asJSON)
	case f.changes:
		return showChanges(g, w, rel, l, f.asJSON)
	default:
		return showRelease(g, w, rel, l, f.asJSON)
	}
}

// shown is a release at a glance.
type shown struct {
	Release  string            `json:"release"`
	Title    string            `json:"title,omitempty"`
	Note     string            `json:"note,omitempty"`
	Identity digest.Digest     `json:"identity"`
	Parent   digest.Digest     `json:"parent,omitempty"`
	Created  string            `json:"created"`
	Origin   string            `json:"origin"`
	Take     string            `json:"take"`
	Host     map[string]string `json:"host"`
	Kernel   *lock.Kernel      `json:"kernel,omitempty"`
	Archives []lock.Archive    `json:"archives"`
	Packages map[string]int    `json:"packages"` // by proof
	Delta    lock.Delta        `json:"delta"`
	Rootfs   string            `json:"rootfs"`
	Index    digest.Digest     `json:"index,omitempty"`
}

func showRelease(g *globals, w *work, rel envs.Release, l *lock.Lock, asJSON bool) error {
	t, err := w.fleet.Target(rel.Target)
	if err != nil {
		return err
	}
	id, err := rel.Identity()
	if err != nil {
		return err
	}
	s := shown{Release: rel.String(), Title: t.Title, Note: t.Notes[fmt.Sprint(rel.Number)], Identity: id,
		Parent: l.Release.Parent, Created: l.Release.Created.UTC().Format("2006-01-02T15:04:05Z"), Origin: l.Release.Origin,
		Take: cmp.Or(l.Take, string(scrub.Standard)),
		Host: map[string]string{}, Kernel: l.Kernel, Archives: l.Archives, Packages: countProofs(l), Delta: l.Delta, Rootfs: l.Rootfs.Digest,
		Index: l.Index.Digest()}
	for _, fact := range envs.Facts(l.Host) {
		if fact.Value != "" {
			s.Host[fact.Name] = fact.Value
		}
	}
	if asJSON {
		return g.printJSON(s)
	}
	out := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(out, "%s\t%s\n", name, clean(value))
		}
	}
	line("release", s.Release)
	line("title", s.Title)
	line("note", s.Note)
	line("taken", s.Created)
	line("identity", s.Identity.String())
	for _, fact := range envs.Facts(l.Host) {
		line(fact.Name, fact.Value)
	}
	if l.Kernel != nil {
		line("kernel version", l.Kernel.Version)
		if n := len(l.Kernel.SystemCalls); n > 0 {
			line("system calls", fmt.Sprint(n))
		}
	}
	for _, a := range l.Archives {
		line("archive", fmt.Sprintf("%s %s, dated %s", a.URI, a.Suite, a.Dated.UTC().Format("2006-01-02")))
	}
	line("packages", proofs(s.Packages))
	line("take", l.Take)
	line("delta", strings.TrimPrefix(deltaLine(l.Delta), "delta "))
	line("rootfs", s.Rootfs)
	line("index", s.Index.String())
	return out.Flush()
}

// deltaLine tells the size of a delta, or that there is none.
func deltaLine(d lock.Delta) string {
	if d.SHA256 == "" {
		return "no content of a file"
	}
	return fmt.Sprintf("delta %s in %d files", envs.Bytes(d.Size), d.Files)
}

func countProofs(l *lock.Lock) map[string]int {
	n := map[string]int{}
	for _, p := range l.Packages {
		n[p.Proof]++
	}
	return n
}

// proofs is a count of packages for people: 472 packages: 468 exact, 4 repacked.
func proofs(by map[string]int) string {
	total, parts := 0, []string{}
	for _, proof := range []string{lock.Exact, lock.Repacked, lock.Listed} {
		if n := by[proof]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, proof))
		}
	}
	if total == 0 {
		return "0 packages"
	}
	return fmt.Sprintf("%d packages: %s", total, strings.Join(parts, ", "))
}

func showPackages(g *globals, l *lock.Lock, asJSON bool) error {
	if asJSON {
		type pkg struct {
			Name         string `json:"name"`
			Version      string `json:"version"`
			Architecture string `json:"architecture"`
			Archive      string `json:"archive,omitempty"`
			Size         int64  `json:"size"`
			SHA256       string `json:"sha256"`
			Proof        string `json:"proof"`
		}
		list := make([]pkg, len(l.Packages))
		for i, p := range l.Packages {
			list[i] = pkg{p.Name, p.Version, p.Architecture, p.Archive, p.Size, p.SHA256, p.Proof}
		}
		return g.printJSON(list)
	}
	out := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "PACKAGE\tVERSION\tARCHITECTURE\tPROOF\tSIZE")
	for _, p := range l.Packages {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\n", clean(p.Name), clean(p.Version), clean(p.Architecture), p.Proof, envs.Bytes(p.Size))
	}
	return out.Flush()
}

func showChanges(g *globals, w *work, rel envs.Release, l *lock.Lock, asJSON bool) error {
	before, err := w.fleet.Resolve(envs.Ref{Target: rel.Target, Number: rel.Number - 1})
	if rel.Number == 1 {
		return fmt.Errorf("comparing %s: there is no release before it", rel)
	}
	if err != nil {
		return err
	}
	b, err := before.Lock()
	if err != nil {
		return err
	}
	if asJSON {
		return g.printJSON(envs.Compare(b, l))
	}
	_, err = io.WriteString(g.stdout, envs.Changes(b, l))
	return err
}

// showDelta tells what became of the host's paths at the snapshot, but for those that
// come out of their package unchanged.
func showDelta(ctx context.Context, g *globals, w *work, l *lock.Lock, f showFlags) error {
	if l.Review == nil {
		return fmt.Errorf("showing the delta of %s@%d: the snapshot kept no review", l.Release.Target, l.Release.Number)
	}
	r, err := envs.LoadReview(ctx, w.config, digest.NewDigestFromEncoded(digest.SHA256, l.Review.SHA256))
	if err != nil {
		return fmt.Errorf("showing the delta of %s@%d: %w", l.Release.Target, l.Release.Number, err)
	}
	switch {
	case f.manifest && f.asJSON:
		return g.printJSON(r.Manifest())
	case f.manifest:
		return r.WriteManifest(g.stdout)
	case f.asJSON:
		return r.WriteJSON(g.stdout)
	case f.all:
		return listDelta(g, r)
	}
	printReview(g.stdout, r)
	return nil
}

// listDelta lists a review path by path.
func listDelta(g *globals, r *envs.Review) error {
	out := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "FATE\tCLASS\tSIZE\tPATH\tREASON")
	for _, d := range r.Decisions {
		fmt.Fprintf(out, "%s\t%s\t%s\t/%s\t%s\n", d.Action, d.Class, envs.Bytes(d.Size), envs.Shown(d.Path), clean(d.Reason))
	}
	for _, left := range r.Left {
		fmt.Fprintf(out, "left\t%s\t%s\t/%s\t%d files: %s\n", left.Class, envs.Bytes(left.Bytes), envs.Shown(left.Path), left.Files, clean(left.Reason))
	}
	for _, left := range r.Unreadable {
		fmt.Fprintf(out, "left\t\t%s\t/%s\tcould not be read: %s\n", envs.Bytes(left.Bytes), envs.Shown(left.Path), clean(left.Reason))
	}
	for _, n := range r.Needed {
		fmt.Fprintf(out, "left\t\t%s\t/%s\tnamed by %s: %s\n", envs.Bytes(n.Bytes), envs.Shown(n.Path), clean(n.By), clean(n.Reason))
	}
	return out.Flush()
}
