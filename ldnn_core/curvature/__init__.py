"""How sharply the loss of trained networks bends: products with the Hessian, its trace, eigenvalues and density.

Nothing of the size Θ × Θ is ever made.  The Hessian is that of the activation that the network really has: of the
cubic table or the sub-network itself, never of straight lines between points.  The second derivative of a kinked base
function (relu, hat) counts as zero, as everywhere in this package.
"""

from ldnn_core.curvature.measure import Curvature, measure_curvature, sign_probes
from ldnn_core.curvature.products import hessian_products, hessian_vector_product

__all__ = [
    "Curvature",
    "hessian_products",
    "hessian_vector_product",
    "measure_curvature",
    "sign_probes",
]
