// Package image turns package files into trees, and trees with a delta into a
// root filesystem; it also finds the delta that a host needs. It decides nothing
// by running code of the target, and reaches no network.
package image
