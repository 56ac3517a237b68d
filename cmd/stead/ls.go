package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/lock"
)

func newLs(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [TARGET]",
		Short: "List the fleet's targets, or the releases of one",
		Args:  cobra.MaximumNArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return runLs(g, args, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	return cmd
}

// listed is one line of ls.
type listed struct {
	Target   string    `json:"target"`
	Release  int       `json:"release,omitempty"` // 0: there is none yet
	Streams  []string  `json:"streams,omitempty"` // that point to it
	Releases int       `json:"releases,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	System   string    `json:"system,omitempty"` // "debian 11"
	Arch     string    `json:"architecture,omitempty"`
	Title    string    `json:"title,omitempty"`
	Note     string    `json:"note,omitempty"`
}

func runLs(g *globals, args []string, asJSON bool) error {
	w, err := g.open(false)
	if err != nil {
		return err
	}
	var list []listed
	if len(args) > 0 {
		list, err = listReleases(w.fleet, args[0])
	} else {
		list, err = listTargets(w.fleet)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return g.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintf(g.stderr, "no targets in %s yet\n", w.fleet.Dir())
		return nil
	}
	return printList(g.stdout, list, len(args) == 0)
}

func listTargets(f *envs.Fleet) ([]listed, error) {
	targets, err := f.Targets()
	list := []listed{}
	for _, name := range targets {
		t, err := f.Target(name)
		if err != nil {
			return nil, err
		}
		releases, err := f.Releases(name)
		if err != nil {
			return nil, err
		}
		l := listed{Target: name, Title: t.Title}
		if len(releases) > 0 {
			rel, err := f.Resolve(envs.Ref{Target: name})
			if err != nil {
				return nil, err
			}
			if l, err = listOne(rel, t); err != nil {
				return nil, err
			}
			l.Title, l.Releases = t.Title, len(releases)
		}
		list = append(list, l)
	}
	return list, err
}

func listReleases(f *envs.Fleet, arg string) ([]listed, error) {
	ref, err := envs.ParseRef(arg)
	if err != nil {
		return nil, asUsage(err)
	}
	if _, err := f.Resolve(ref); err != nil {
		return nil, err
	}
	t, err := f.Target(ref.Target)
	if err != nil {
		return nil, err
	}
	releases, err := f.Releases(ref.Target)
	if err != nil {
		return nil, err
	}
	list := []listed{}
	for _, rel := range releases {
		l, err := listOne(rel, t)
		if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

func listOne(rel envs.Release, t envs.Target) (listed, error) {
	text, err := rel.Text()
	if err != nil {
		return listed{}, err
	}
	h, err := lock.ReadHeader(text)
	if err != nil {
		return listed{}, fmt.Errorf("%s: %w", rel.Path, err)
	}
	l := listed{Target: rel.Target, Release: rel.Number, Created: h.Release.Created, Arch: h.Host.Architecture,
		System: strings.TrimSpace(h.Host.ID + " " + h.Host.Version), Note: t.Notes[fmt.Sprint(rel.Number)]}
	for name, number := range t.Streams {
		if number == rel.Number {
			l.Streams = append(l.Streams, name)
		}
	}
	slices.Sort(l.Streams)
	return l, nil
}

func printList(out io.Writer, list []listed, targets bool) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	last := "NOTE"
	if targets {
		last = "TITLE"
	}
	fmt.Fprintf(w, "RELEASE\tSTREAMS\tSYSTEM\tARCHITECTURE\tTAKEN\t%s\n", last)
	for _, l := range list {
		name, taken := l.Target, "never"
		if l.Release > 0 {
			name, taken = fmt.Sprintf("%s@%d", l.Target, l.Release), l.Created.UTC().Format("2006-01-02 15:04")
		}
		words := l.Note
		if targets {
			words = l.Title
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", name, strings.Join(l.Streams, ","), clean(l.System), clean(l.Arch), taken, clean(words))
	}
	return w.Flush()
}
