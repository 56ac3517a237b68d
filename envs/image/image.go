// Package image turns package files into trees, and trees with a delta into a
// root filesystem, or into a layer of tools above one; it also finds the delta
// that a host needs. It decides nothing by running code of the target, and
// reaches no network.
package image
