package main

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/snapshot/scrub"
)

// bundleScript lacks the rules that it goes by, which are at its end when it is printed.
//
//go:embed bundle-script.sh
var bundleScript string

func newBundleScript(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "bundle-script",
		Short: "Print a shell script that makes a bundle of a host where no foreign program may run",
		Long: "bundle-script prints a script for /bin/sh that reads the host it runs on, and writes what a snapshot\n" +
			"of it needs to one file. It does what stead-bundle does, with the programs that the host has.",
		Example: "  stead bundle-script > stead-bundle.sh      # copy it there: sh stead-bundle.sh / acme.bundle\n" +
			"  stead snapshot bundle:acme.bundle acme",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(g.stdout, theBundleScript())
			return err
		},
	}
}

// theBundleScript is the script with its rules.
func theBundleScript() string {
	var b strings.Builder
	b.WriteString(bundleScript)
	for line := range strings.Lines(scrub.Script()) {
		b.WriteString("#=" + line)
	}
	b.WriteString("#%rulesend\n")
	return b.String()
}
