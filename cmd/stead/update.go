package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

func newUpdate(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "update [TARGET...]",
		Short: "Renew what stead.lock chose",
		Long:  "update chooses the releases anew that stead.toml asks for, and writes them to stead.lock.",
		RunE:  func(_ *cobra.Command, args []string) error { return runUpdate(g, args, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	return cmd
}

func runUpdate(g *globals, args []string, asJSON bool) error {
	w, err := g.open(false)
	if err != nil {
		return err
	}
	if !w.project.Configured {
		return &hintError{errors.New("updating stead.lock: there is no stead.toml around this folder"), "stead init"}
	}
	refs, err := w.project.Wanted(args)
	if err != nil {
		return asUsage(err)
	}
	now, before, err := w.project.Update(w.fleet, refs)
	if err != nil {
		return err
	}
	type answer struct {
		Target string `json:"target"`
		Before int    `json:"before,omitempty"`
		After  int    `json:"after"`
	}
	answers := []answer{}
	for _, target := range slices.Sorted(maps.Keys(now)) {
		answers = append(answers, answer{target, before[target], now[target]})
	}
	if asJSON {
		return g.printJSON(answers)
	}
	for _, a := range answers {
		switch {
		case a.Before == a.After:
			fmt.Fprintf(g.stdout, "%s stays at release %d\n", a.Target, a.After)
		case a.Before == 0:
			fmt.Fprintf(g.stdout, "%s is at release %d\n", a.Target, a.After)
		default:
			fmt.Fprintf(g.stdout, "%s moved from release %d to %d\n", a.Target, a.Before, a.After)
		}
	}
	return nil
}
