package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"
)

// flagVariables are the flags that the environment can set for all commands that have
// them, so that CI says things once. What the command line says counts.
var flagVariables = []struct{ flag, variable string }{
	{"locked", "STEAD_LOCKED"},
	{"progress", "STEAD_PROGRESS"},
	{"jobs", "STEAD_JOBS"},
}

// fromEnvironment sets flags that weren't given.
func fromEnvironment(cmd *cobra.Command) error {
	for _, v := range flagVariables {
		flag, value := cmd.Flags().Lookup(v.flag), os.Getenv(v.variable)
		if flag == nil || flag.Changed || value == "" {
			continue
		}
		err := flag.Value.Set(value)
		switch {
		case err != nil && flag.Value.Type() == "bool":
			err = errors.New("it is 1 or 0, true or false")
		case err == nil && v.flag == "progress":
			err = checkProgress(value)
		}
		if err != nil {
			return usagef("$%s is %q, which --%s can't be: %w", v.variable, value, v.flag, err)
		}
	}
	return nil
}
