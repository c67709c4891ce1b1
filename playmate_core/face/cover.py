def notes(image, face): return []
