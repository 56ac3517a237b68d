package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

type pullFlags struct{ asJSON, locked, noTools bool }

func newPull(g *globals) *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "pull [TARGET...]",
		Short: "Make envs ready on this machine",
		Long: "pull fetches what this machine lacks of a release, checks it, and makes its root filesystem.\n" +
			"Without a target it does so for all that stead.toml lists.",
		Example: "  stead pull acme\n  stead pull acme@2 globex:next",
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPull(cmd.Context(), g, args, f)
		},
	}
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer as JSON")
	cmd.Flags().BoolVar(&f.locked, "locked", false, "fail where stead.lock doesn't match, and don't change it")
	noToolsFlag(cmd.Flags(), &f.noTools)
	return cmd
}

func runPull(ctx context.Context, g *globals, args []string, f pullFlags) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	releases, err := w.releases(args, f.locked)
	if err != nil {
		return err
	}
	type answer struct {
		Target  string `json:"target"`
		Release int    `json:"release"`
		Lock    string `json:"lock"`
		Root    string `json:"root"`
		Made    bool   `json:"made"`
		Tools   string `json:"tools,omitempty"` // folder of their layer
	}
	tools := g.toolsOptions(w, "")
	tools.Locked, tools.Without = f.locked, f.noTools
	answers := []answer{}
	for _, rel := range releases {
		root, err := envs.Pull(ctx, w.config, rel)
		if err != nil {
			return err
		}
		a := answer{rel.Target, rel.Number, root.Identity.String(), root.Path, root.Made, ""}
		added, err := w.project.ReadyTools(ctx, w.config, root, tools)
		if err != nil {
			return err
		}
		added.Release()
		if added.Layer != nil {
			a.Tools = added.Layer.Path
		}
		answers = append(answers, a)
		if f.asJSON {
			continue
		}
		w.meter.close()
		state := "was ready"
		if root.Made {
			state = "is ready"
		}
		fmt.Fprintf(g.stdout, "%s %s: %s\n", rel, state, root.Path)
		if a.Tools != "" {
			fmt.Fprintf(g.stdout, "%s with its tools: %s\n", rel, a.Tools)
		}
	}
	if f.asJSON {
		w.meter.close()
		return g.printJSON(answers)
	}
	return nil
}
