package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

func newGroup(g *globals) *cobra.Command {
	var locked, asJSON bool
	cmd := &cobra.Command{
		Use:   "group [TARGET...]",
		Short: "Find the fewest builds that serve all targets",
		Long: "group tells in which targets' envs to build so that each target has a build that starts there, and why not\n" +
			"fewer do. What stead build brought to dist/TARGET is judged for the other targets; where nothing was built\n" +
			"for a release, its libraries are compared with those of the others: a build could take anything from them.\n" +
			"Build once, and group again: what artifacts really need is less. The answer is exact for up to 64 targets.",
		Example: "  stead group\n  stead group acme globex initech\n  stead matrix --grouped --format github",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runGroup(cmd.Context(), g, args, locked, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&locked, "locked", false, "fail where stead.lock doesn't match")
	flags.BoolVar(&asJSON, "json", false, "answer as JSON")
	return cmd
}

func runGroup(ctx context.Context, g *globals, args []string, locked, asJSON bool) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	grouping, err := g.group(ctx, w, args, locked)
	if err != nil {
		return err
	}
	w.meter.close()
	if asJSON {
		return g.printJSON(grouping)
	}
	g.printGrouping(grouping)
	return nil
}

// group groups the targets that args name, or all of the project.
func (g *globals) group(ctx context.Context, w *work, args []string, locked bool) (*envs.Grouping, error) {
	refs, err := w.refs(args)
	if err != nil {
		return nil, err
	}
	releases, err := w.project.Chosen(w.fleet, refs, locked)
	if err == nil {
		releases, err = onceEach(releases)
	}
	if err != nil {
		return nil, err
	}
	return w.project.Group(ctx, w.config, releases, indexOptions)
}

// printGrouping tells people which builds there are, and why each is one of its own.
func (g *globals) printGrouping(grouping *envs.Grouping) {
	exact := ""
	if !grouping.Exact {
		exact = ", perhaps fewer: there are too many targets to be sure"
	}
	fmt.Fprintf(g.stdout, "%s, %s%s\n", counted(grouping.Targets, "target"), counted(len(grouping.Builds), "build"), exact)
	for _, b := range grouping.Builds {
		var names []string
		for _, s := range b.Serves {
			names = append(names, s.Target)
		}
		fmt.Fprintf(g.stdout, "\nbuild in %s@%d: serves %s\n", b.Target, b.Release, strings.Join(names, ", "))
		for _, s := range b.Serves {
			switch s.By {
			case envs.ByArtifacts:
				fmt.Fprintf(g.stdout, "  %s: what was built starts there\n", s.Target)
			case envs.ByProvides:
				fmt.Fprintf(g.stdout, "  %s: it has all that %s provides\n", s.Target, b.Target)
			}
			for _, o := range s.Else {
				why := "lacks what " + o.Build + " provides"
				if o.By == envs.ByArtifacts {
					why = "isn't served by what was built in " + o.Build
				}
				fmt.Fprintf(g.stdout, "  %s %s: %s\n", s.Target, why, clean(o.Text))
			}
		}
	}
}
