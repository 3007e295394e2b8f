r"""Digits on request: a model that receives the label draws the digit that you request.

p(x | y) = E[p(x | y, z)] over z ~ N(0, I). Both encoder and decoder receive y, so z does not need to encode which digit
it is. It encodes only the handwriting: the same z under ten labels gives ten digits in one handwriting (Sohn, Lee and
Yan, Learning Structured Output Representation using Deep Conditional Generative Models, 2015; Kingma et al.,
Semi-supervised Learning with Deep Generative Models, 2014, figure 1).
"""

import _show
import numpy as np
from sklearn.svm import SVC

from ppl_vae import VariationalInference
from ppl_vae.data import load_dataset
from ppl_vae.models.cvae import CVAE
from ppl_vae.uses import generate

options = _show.options()
data = load_dataset("digits")
vi = VariationalInference(CVAE(latent_dim=6), max_epochs=200, patience=None)
vi.fit({"x": data.train["x"], "y": data.train["y"]}, validation={"x": data.valid["x"], "y": data.valid["y"]})

handwriting = np.random.default_rng(0).normal(size=(6, 6)).astype("float32")  # one row of z per handwriting
y = np.tile(np.arange(10), len(handwriting))
sheet = generate(vi, len(y), y=y, z=handwriting.repeat(10, 0))
figure, (left, right) = _show.panels("Digits on request", 1, 2, size=(5.2, 4.2))
_show.mosaic(left, sheet.means["x"].reshape(-1, 8, 8), 10)
left.set(title="one z per row, one label per column")
drawn = generate(vi, len(y), y=y)
_show.mosaic(right, drawn.draws["x"].reshape(-1, 8, 8), 10)
right.set(title="z and pixels drawn from the model")
for ax in (left, right):
    ax.set_xticks(5 + 10 * np.arange(10), [str(k) for k in range(10)])
    ax.set_xlabel("requested label y")
_show.save(figure, options.output)

classifier = SVC().fit(data.train["x"], data.train["y"])
requested = np.tile(np.arange(10), 200)
agrees = (classifier.predict(generate(vi, 2000, y=requested).draws["x"]) == requested).mean()
accuracy = classifier.score(data.test["x"], data.test["y"])
print(f"a classifier of real digits, which is right for {accuracy:.0%} of the test digits,")
print(f"assigns the requested label to {agrees:.0%} of 2000 draws")
