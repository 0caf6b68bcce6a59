"""The CustomResourceDefinition, generated from the types of the resource."""
