// What the cluster's own images and its registry are made of: the standard library alone.
module l4way.dev/e2e/cluster/images

go 1.26.0
