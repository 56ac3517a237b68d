package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

func newPush(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "push [TARGET...]",
		Short: "Share what only this store has",
		Long: "push brings what no archive has of a release, such as its delta, to the fleet's remote: its blobs/.\n" +
			"What this project's tools have of that kind goes there, too.\n" +
			"A target alone means its newest release, and no target all of the fleet's.",
		Example: "  stead push acme\n  stead push acme@2",
		RunE:    func(cmd *cobra.Command, args []string) error { return runPush(cmd.Context(), g, args, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	return cmd
}

func runPush(ctx context.Context, g *globals, args []string, asJSON bool) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	releases, err := newestOf(w.fleet, args)
	if err != nil {
		return err
	}
	answers := []envs.Pushed{}
	for _, rel := range releases {
		done, err := envs.Push(ctx, w.config, rel)
		if err != nil {
			return err
		}
		answers = append(answers, done)
	}
	var targets []string
	for _, rel := range releases {
		targets = append(targets, rel.Target)
	}
	if len(args) == 0 {
		targets = nil
	}
	tools, err := w.project.PushTools(ctx, w.config, targets)
	if err != nil {
		return err
	}
	answers = append(answers, tools...)
	w.meter.close()
	if asJSON {
		return g.printJSON(answers)
	}
	for _, a := range answers {
		if a.Tools {
			a.Release = "tools for " + a.Release
		}
		fmt.Fprintf(g.stdout, "%s: %d blobs pushed, %d were there\n", a.Release, a.Blobs, a.Present)
	}
	return nil
}

// newestOf are the releases that args name, where a target alone means its newest:
// that is what a snapshot left in this store only, whatever a project uses.
func newestOf(f *envs.Fleet, args []string) ([]envs.Release, error) {
	if len(args) == 0 {
		targets, err := f.Targets()
		if err != nil {
			return nil, err
		}
		args = targets
	}
	var list []envs.Release
	for _, arg := range args {
		ref, err := envs.ParseRef(arg)
		if err != nil {
			return nil, asUsage(err)
		}
		rel, err := f.Resolve(ref)
		if err != nil {
			return nil, err
		}
		if ref.Number == 0 && ref.Stream == "" {
			all, err := f.Releases(ref.Target)
			if err != nil {
				return nil, err
			}
			rel = all[len(all)-1]
		}
		list = append(list, rel)
	}
	return list, nil
}
