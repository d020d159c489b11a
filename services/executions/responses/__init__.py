"""Response messages, put together from serialized parts; a part is parsed only where something in it must change."""
