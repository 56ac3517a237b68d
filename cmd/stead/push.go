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
		Long:  "push brings what no archive has of a release, such as its delta, to the fleet's remote: its blobs/.",
		RunE:  func(cmd *cobra.Command, args []string) error { return runPush(cmd.Context(), g, args, asJSON) },
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
	releases, err := w.releases(args, false)
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
	w.meter.close()
	if asJSON {
		return g.printJSON(answers)
	}
	for _, a := range answers {
		fmt.Fprintf(g.stdout, "%s: %d blobs pushed, %d were there\n", a.Release, a.Blobs, a.Present)
	}
	return nil
}
