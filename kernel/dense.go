package kernel

// lanes holds float32 values 16 at a time, value u in lane u mod 16, zero
// after the last. A lane is addressed [u/16][u/4%4][u%4].
type lanes [][4][4]float32

func newLanes(n int) lanes { return make(lanes, (n+15)/16) }

func (l lanes) at(u int) float32 { return l[u/16][u/4%4][u%4] }

func (l lanes) put(u int, v float32) { l[u/16][u/4%4][u%4] = v }

// set puts values u and u+1, u being even.
func (l lanes) set(u int, v0, v1 float32) {
	p := &l[u/16][u/4%4]
	p[u%4], p[u%4+1] = v0, v1
}

// dense is a Dense layer of either type of model. An output is the sum of 16
// lanes that start at +0, input u going into lane u mod 16, u ascending, every
// multiply and add rounded separately; the lanes are then added in order to
// the bias. Zero padding therefore adds +0 to a lane, which changes no bit.
type dense struct {
	tier       tier
	units, in  int
	activation Activation
	bias       []float32
	w          lanes // [unit][in/16]
}

func packDense(t tier, kernel, bias []float32, in int, l Layer) *dense {
	d := &dense{tier: t, units: l.Units, in: in, activation: l.Activation, bias: append([]float32(nil), bias...)}
	n := (in + 15) / 16
	d.w = make(lanes, l.Units*n)
	for k := range in {
		for u := range l.Units {
			d.w[u*n:].put(k, kernel[k*l.Units+u])
		}
	}
	return d
}

// apply computes y from x, which holds the layer's inputs. len(y) is units.
func (d *dense) apply(y []float32, x lanes) {
	if d.tier != generic {
		denseSum(d.tier, &y[0], &d.bias[0], &d.w[0][0][0], &x[0][0][0], len(y), len(x))
	} else {
		d.sum(y, x)
	}
	switch d.activation {
	case ReLU:
		for u, v := range y {
			y[u] = relu(v)
		}
	case Sigmoid:
		for u, v := range y {
			y[u] = sigmoid(v)
		}
	case Softmax:
		softmax(y)
	}
}

// sum is apply before the activation.
func (d *dense) sum(y []float32, x lanes) {
	for u := range y {
		w := d.w[u*len(x):][:len(x)]
		v := d.bias[u]
		for g := range 4 {
			for _, s := range sumLanes(w, x, g) {
				v += s
			}
		}
		y[u] = v
	}
}

// sumLanes sums the products of lanes 4g to 4g+3.
func sumLanes(w, x lanes, g int) [4]float32 {
	w = w[:len(x)]
	var s0, s1, s2, s3 float32
	for n := range x {
		p, v := &w[n][g&3], &x[n][g&3]
		s0 += float32(p[0] * v[0])
		s1 += float32(p[1] * v[1])
		s2 += float32(p[2] * v[2])
		s3 += float32(p[3] * v[3])
	}
	return [4]float32{s0, s1, s2, s3}
}

// relu is v above 0 and otherwise +0.
func relu(v float32) float32 {
	if v > 0 {
		return v
	}
	return 0
}

// softmax subtracts the maximum, and sums as dense does: 16 lanes, then in
// lane order.
func softmax(y []float32) {
	top := y[0]
	for _, v := range y {
		top = max(top, v)
	}
	var lane [16]float32
	for u, v := range y {
		y[u] = exp(v - top)
		lane[u%16] += y[u]
	}
	var sum float32
	for _, s := range lane {
		sum += s
	}
	for u, v := range y {
		y[u] = v / sum
	}
}
